//! Passwords and tokens: in no log, whatever its level, in no metric and in no cause.

use std::fmt::Write;

use e2e::{
    process::{Process, Setup},
    secure_cluster::{Listener, SecureCluster},
};

use crate::security::{CAUSE_LIMIT, log_in, until_cause};

/// The forms in which bytes are shown: as text, as a list of numbers, and in hexadecimal.
fn forms(secret: &str) -> [String; 4] {
    let bytes = secret.as_bytes();
    let numbers = format!("{bytes:?}");
    let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    let numbers = numbers.trim_matches(['[', ']']).to_owned();
    [secret.to_owned(), numbers, hex.clone(), hex.to_uppercase()]
}

/// Fails if what the process shows has the secret in it.
async fn check(process: &Process, secret: &str) {
    let log = process.log().join("\n");
    assert!(log.contains("DEBUG rskafka"), "the level is not set: {log}");
    let pages = [process.page("/metrics").await.1, process.page("/ready").await.1];
    for text in pages.iter().chain([&log]) {
        for form in forms(secret) {
            assert!(!text.contains(&form), "{} shows {form:?}: {text}", process.name());
        }
    }
}

async fn setup(cluster: &SecureCluster, user: &str, listener: Listener, mechanism: &str) -> Setup {
    let setup = if user == "gateway" {
        Setup::gateway()
    } else {
        Setup::worker()
    };
    let setup = log_in(cluster, setup, user, listener, mechanism).await;
    // The messenger has a level of its own by default.
    setup.set("RUST_LOG", "trace,rskafka=trace")
}

pub(crate) async fn passwords_and_tokens_are_never_shown(cluster: &SecureCluster) {
    for (listener, mechanism) in [(Listener::SaslPlaintext, "PLAIN"), (Listener::SaslSsl, "SCRAM-SHA-512")] {
        for user in ["gateway", "worker"] {
            let right = setup(cluster, user, listener, mechanism).await.ready();
            let wrong = setup(cluster, user, listener, mechanism).await;
            let file = cluster.write_file("wrong.password", "Zebra-Quagga-7319");
            let wrong = wrong.unset("KAFKA_SASL_PASSWORD").set("KAFKA_SASL_PASSWORD_FILE", file);
            let (right, wrong) = tokio::join!(right, wrong.start());
            check(&right, cluster.password(user)).await;
            until_cause(&wrong, &["SaslAuthenticationFailed"], CAUSE_LIMIT).await;
            check(&wrong, "Zebra-Quagga-7319").await;
        }
    }
    for seconds in [600, -60] {
        for user in ["gateway", "worker"] {
            let token = cluster.token(user, seconds).await;
            let process = setup(cluster, user, Listener::SaslPlaintext, "OAUTHBEARER").await;
            let file = cluster.write_file("trace.token", &token);
            let process = process.set("KAFKA_SASL_OAUTHBEARER_TOKEN_FILE", file).start().await;
            if seconds > 0 {
                process.until_ready().await;
            } else {
                until_cause(&process, &["SaslAuthenticationFailed"], CAUSE_LIMIT).await;
            }
            check(&process, &token).await;
        }
    }
}
