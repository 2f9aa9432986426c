//! What `/ready` and the log say when no connection to Kafka comes about: broker, cause and what to do.

use e2e::{
    process::Setup,
    secure_cluster::{Listener, SecureCluster},
};
use tokio::net::TcpListener;

use crate::security::{CAUSE_LIMIT, log_in, until_cause};

/// A gateway of a user, on a listener.
async fn gateway(cluster: &SecureCluster, listener: Listener, mechanism: &str) -> Setup {
    log_in(cluster, Setup::gateway(), "gateway", listener, mechanism).await
}

/// Starts it, and waits until it names `broker` and the words.
async fn expect(setup: Setup, broker: &str, words: &[&str]) {
    let gateway = setup.start().await;
    until_cause(&gateway, &[&[broker], words].concat(), CAUSE_LIMIT).await;
    assert_eq!(gateway.get("/ping").await.status, 503);
}

pub(crate) async fn wrong_protocol_is_named(cluster: &SecureCluster) {
    for (client, port, words) in [
        (
            Listener::SaslSsl,
            Listener::Plaintext,
            &[
                "TLS with",
                "is this a plaintext listener? check KAFKA_SECURITY_PROTOCOL",
            ][..],
        ),
        (
            Listener::SaslPlaintext,
            Listener::Plaintext,
            &["the listener has no login"],
        ),
        (
            Listener::Plaintext,
            Listener::Ssl,
            &["(ApiVersions)", "set KAFKA_SECURITY_PROTOCOL"],
        ),
        (
            Listener::Plaintext,
            Listener::SaslSsl,
            &["(ApiVersions)", "set KAFKA_SECURITY_PROTOCOL"],
        ),
        (
            Listener::Plaintext,
            Listener::SaslPlaintext,
            &[
                "closed the connection at the first answer (Metadata): is this a TLS or SASL listener? set KAFKA_SECURITY_PROTOCOL",
            ],
        ),
        (
            Listener::SaslPlaintext,
            Listener::SaslSsl,
            &["(ApiVersions)", "set KAFKA_SECURITY_PROTOCOL to"],
        ),
        (
            Listener::Ssl,
            Listener::SaslSsl,
            &["is this a SASL listener? set KAFKA_SECURITY_PROTOCOL to SASL_SSL"],
        ),
    ] {
        let gateway = gateway(cluster, client, "PLAIN").await;
        let broker = cluster.brokers(port);
        expect(gateway.set("KAFKA_BROKERS", broker), broker, words).await;
    }
}

pub(crate) async fn refused_login_is_named(cluster: &SecureCluster) {
    for (listener, mechanism) in [
        (Listener::SaslPlaintext, "PLAIN"),
        (Listener::SaslSsl, "SCRAM-SHA-256"),
        (Listener::SaslSsl, "SCRAM-SHA-512"),
    ] {
        let broker = cluster.brokers(listener);
        let advice = "check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD";
        let wrong_password = gateway(cluster, listener, mechanism)
            .await
            .set("KAFKA_SASL_PASSWORD", "wrong");
        let words = ["SaslAuthenticationFailed for user gateway", "nvalid", advice];
        expect(wrong_password, broker, &words).await;
        let unknown_user = gateway(cluster, listener, mechanism)
            .await
            .set("KAFKA_SASL_USERNAME", "nobody");
        let words = ["SaslAuthenticationFailed for user nobody", "nvalid", advice];
        expect(unknown_user, broker, &words).await;
    }
    let not_enabled = gateway(cluster, Listener::SaslPlaintext, "SCRAM-SHA-256").await;
    let words = ["SCRAM-SHA-256", "set KAFKA_SASL_MECHANISM to one that it has: PLAIN"];
    expect(not_enabled, cluster.brokers(Listener::SaslPlaintext), &words).await;
    let expired_token = gateway(cluster, Listener::SaslSsl, "OAUTHBEARER").await;
    let expired_token = expired_token.set(
        "KAFKA_SASL_OAUTHBEARER_TOKEN_FILE",
        cluster.token_file("gateway", -60).await,
    );
    let words = [
        "SaslAuthenticationFailed for a token",
        "check KAFKA_SASL_OAUTHBEARER_TOKEN_FILE",
    ];
    expect(expired_token, cluster.brokers(Listener::SaslSsl), &words).await;
}

pub(crate) async fn refused_certificate_is_named(cluster: &SecureCluster) {
    let (sasl_ssl, ssl) = (cluster.brokers(Listener::SaslSsl), cluster.brokers(Listener::Ssl));
    let unknown_ca = gateway(cluster, Listener::SaslSsl, "PLAIN").await;
    let unknown_ca = unknown_ca.set("KAFKA_SSL_CA_LOCATION", cluster.tls_file("foreign-ca.crt"));
    expect(unknown_ca, sasl_ssl, &["UnknownIssuer; set KAFKA_SSL_CA_LOCATION"]).await;

    let no_certificate = Setup::gateway()
        .set("KAFKA_BROKERS", ssl)
        .set("KAFKA_SECURITY_PROTOCOL", "SSL")
        .set("KAFKA_SSL_CA_LOCATION", cluster.tls_file("ca.crt"));
    expect(no_certificate, ssl, &["KAFKA_SSL_CERTIFICATE_LOCATION"]).await;
    let foreign_certificate = gateway(cluster, Listener::Ssl, "").await;
    let foreign_certificate = foreign_certificate
        .set("KAFKA_SSL_CERTIFICATE_LOCATION", cluster.tls_file("foreign.crt"))
        .set("KAFKA_SSL_KEY_LOCATION", cluster.tls_file("foreign.key"));
    expect(foreign_certificate, ssl, &["KAFKA_SSL_CERTIFICATE_LOCATION"]).await;

    for (certificate, words) in [
        (
            "expired",
            &[
                "the certificate of the broker expired",
                "renew the certificate of the broker",
            ],
        ),
        (
            "other-name",
            &[
                "only valid for DnsName(\"kafka.example.com\")",
                "use a name in KAFKA_BROKERS and advertised.listeners",
            ],
        ),
    ] {
        cluster.replace_certificate(certificate).await;
        let gateway = gateway(cluster, Listener::SaslSsl, "PLAIN").await;
        expect(gateway, sasl_ssl, &[&["TLS with"], &words[..]].concat()).await;
    }
}

/// Needs no node: what answers is not Kafka.
pub(crate) async fn port_that_is_not_kafka_is_named() {
    // It accepts connections in its backlog, and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = listener.local_addr().unwrap().to_string();
    let gateway = |broker: &str| Setup::gateway().set("KAFKA_BROKERS", broker);
    // The admin listener of another gateway is the HTTP server.
    let other = gateway("no-such-host.invalid:9092").start().await;
    let words = ["no-such-host.invalid:9092 cannot be reached", "check KAFKA_BROKERS"];
    until_cause(&other, &words, CAUSE_LIMIT).await;
    let http = other.admin().to_string();
    expect(
        gateway(&http),
        &http,
        &["answers in HTTP (ApiVersions): check the port in KAFKA_BROKERS"],
    )
    .await;
    let tls = gateway(&http).set("KAFKA_SECURITY_PROTOCOL", "SSL");
    expect(
        tls,
        &http,
        &["what answers does not speak TLS: check the port in KAFKA_BROKERS"],
    )
    .await;
    let words = [
        "did not answer within",
        "is it a Kafka broker, and does KAFKA_SECURITY_PROTOCOL fit?",
    ];
    for protocol in ["PLAINTEXT", "SSL"] {
        expect(
            gateway(&silent).set("KAFKA_SECURITY_PROTOCOL", protocol),
            &silent,
            &words,
        )
        .await;
    }
}
