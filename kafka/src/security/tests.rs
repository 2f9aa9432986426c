use clap::Parser;

use super::*;

const LOGIN: [&str; 3] = [
    "--kafka-sasl-mechanism=PLAIN",
    "--kafka-sasl-username=alice",
    "--kafka-sasl-password=secret",
];

fn security(protocol: &str, login: &[&str], features: &[CpuFeature]) -> Result<Security, String> {
    #[derive(Debug, Parser)]
    struct Settings {
        #[command(flatten)]
        kafka: KafkaSettings,
    }
    let protocol = format!("--kafka-security-protocol={protocol}");
    let settings = Settings::parse_from([&["test", &protocol], login].concat());
    Security::on_processor(&settings.kafka, features)
}

#[test]
fn tls_is_refused_on_a_processor_without_its_instructions() {
    let features = [("adx", false), ("aes", true), ("avx2", false)];
    for (protocol, login) in [("SSL", &LOGIN[..0]), ("SASL_SSL", &LOGIN)] {
        let error = security(protocol, login, &features).unwrap_err();
        assert_eq!(
            error,
            format!(
                "KAFKA_SECURITY_PROTOCOL: {protocol} is not possible on this processor, which has no adx, avx2 instructions; \
                 only PLAINTEXT and SASL_PLAINTEXT are"
            )
        );
        security(protocol, login, &[("adx", true)]).unwrap();
    }
    for (protocol, login) in [("PLAINTEXT", &LOGIN[..0]), ("SASL_PLAINTEXT", &LOGIN)] {
        security(protocol, login, &features).unwrap();
    }
}
