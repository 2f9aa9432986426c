//! Clusters with TLS, SASL and ACLs, and the records of Kafka's own producer. On real Kafka only.

use std::{collections::BTreeMap, time::Duration};

use e2e::{
    process::{Process, Setup},
    secure_cluster::{Listener, SecureCluster},
    topic::{Topic, create},
    wait::until,
};
use uuid::Uuid;

/// The topics on which the users have their rights.
const PING: &str = "ping";
const PONG: &str = "pong";

/// How soon a fault is named in `/ready` and in the log.
pub(crate) const CAUSE_LIMIT: Duration = Duration::from_secs(5);

/// A node with these properties, and the topics of the contract.
pub(crate) async fn cluster(properties: &str) -> SecureCluster {
    let cluster = SecureCluster::start(1, properties)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    for topic in [PING, PONG] {
        create(cluster.brokers(Listener::Plaintext), topic, 1).await;
    }
    cluster
}

/// The settings of a user for a listener, and a mechanism where it has logins.
pub(crate) async fn log_in(
    cluster: &SecureCluster,
    setup: Setup,
    user: &str,
    listener: Listener,
    mechanism: &str,
) -> Setup {
    let setup = setup
        .set("KAFKA_BROKERS", cluster.brokers(listener))
        .set("KAFKA_SECURITY_PROTOCOL", listener.protocol());
    let setup = match listener {
        Listener::SaslSsl | Listener::Ssl => setup.set("KAFKA_SSL_CA_LOCATION", cluster.tls_file("ca.crt")),
        Listener::Plaintext | Listener::SaslPlaintext => setup,
    };
    match (listener, mechanism) {
        (Listener::Plaintext, _) => setup,
        (Listener::Ssl, _) => setup
            .set(
                "KAFKA_SSL_CERTIFICATE_LOCATION",
                cluster.tls_file(&format!("{user}.crt")),
            )
            .set("KAFKA_SSL_KEY_LOCATION", cluster.tls_file(&format!("{user}.key"))),
        (_, "OAUTHBEARER") => setup
            .set("KAFKA_SASL_MECHANISM", mechanism)
            .set("KAFKA_SASL_OAUTHBEARER_TOKEN_FILE", cluster.token_file(user, 600).await),
        _ => setup
            .set("KAFKA_SASL_MECHANISM", mechanism)
            .set("KAFKA_SASL_USERNAME", user)
            .set("KAFKA_SASL_PASSWORD", cluster.password(user)),
    }
}

/// Waits until `/ready` and the log name a cause that contains all of `words`.
pub(crate) async fn until_cause(process: &Process, words: &[&str], limit: Duration) {
    let has_words = |text: &str| words.iter().all(|word| text.contains(word));
    let what = format!("{words:?} in /ready and in the log of the {}", process.name());
    until(&what, limit, async || {
        let (status, page) = process.page("/ready").await;
        let is_in_page = status == 503 && causes(&page).values().any(|cause| has_words(cause));
        let is_in_log = || {
            process
                .log()
                .iter()
                .any(|line| line.contains(" WARN ") && has_words(line))
        };
        (is_in_page && is_in_log()).then_some(())
    })
    .await;
}

/// The causes in the body of `/ready`.
fn causes(page: &str) -> BTreeMap<String, String> {
    let page: serde_json::Value = serde_json::from_str(page).unwrap();
    serde_json::from_value(page["causes"].clone()).unwrap()
}

/// Sends a request through both halves.
pub(crate) async fn request(gateway: &Process) -> u16 {
    gateway.post("/ping", r#"{"name":"Ping","value":"Pong"}"#).await.status
}

/// With the least rights, each of the worker in a group and without one.
pub(crate) async fn every_login_serves_requests(cluster: &SecureCluster) {
    for (listener, mechanism) in [
        (Listener::Ssl, "client certificate"),
        (Listener::SaslPlaintext, "PLAIN"),
        (Listener::SaslPlaintext, "SCRAM-SHA-256"),
        (Listener::SaslSsl, "SCRAM-SHA-512"),
        (Listener::SaslSsl, "OAUTHBEARER"),
    ] {
        let gateway = log_in(cluster, Setup::gateway(), "gateway", listener, mechanism).await;
        let worker = log_in(cluster, Setup::worker(), "worker", listener, mechanism).await;
        let worker = match listener {
            Listener::SaslSsl => worker.set("WORKER_GROUP", "workers"),
            _ => worker,
        };
        let (gateway, _worker) = tokio::join!(gateway.ready(), worker.ready());
        let first_line = gateway.log().into_iter().next().unwrap();
        assert!(first_line.contains(cluster.brokers(listener)), "{first_line}");
        assert!(first_line.contains(listener.protocol()), "{first_line}");
        let name = Uuid::new_v4().to_string();
        let body = serde_json::json!({ "name": name, "value": mechanism }).to_string();
        let response = gateway.post("/ping", body).await;
        assert_eq!(response.status, 200, "{listener:?} {mechanism}: {response:?}");
        assert!(
            response.text().contains(&name),
            "{listener:?} {mechanism}: {response:?}"
        );
    }
}

pub(crate) async fn every_codec_and_committed_transaction_is_answered(cluster: &SecureCluster) {
    let plaintext = cluster.brokers(Listener::Plaintext);
    let worker = Setup::worker().set("KAFKA_BROKERS", plaintext);
    let _worker = worker.ready().await;
    let mut sent = Vec::new();
    let mut request = || {
        let id = Uuid::new_v4().to_string();
        // Long and repetitive: each codec makes it smaller.
        let value = serde_json::json!({ "id": id, "name": "Ping", "value": id.repeat(50) }).to_string();
        sent.push(id.clone());
        (id, value)
    };
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let mut producer = cluster.java_producer(&[&format!("compression.type={codec}")]);
        let (id, value) = request();
        producer.command(&["send", "-", PING, "0", &id, &value]).await;
    }
    let mut producer = cluster.java_producer(&["compression.type=zstd"]);
    producer.command(&["begin", "aborted"]).await;
    producer
        .command(&["send", "aborted", PING, "0", &Uuid::new_v4().to_string(), "{}"])
        .await;
    producer.command(&["begin", "committed"]).await;
    let (id, value) = request();
    producer.command(&["send", "committed", PING, "0", &id, &value]).await;
    producer.command(&["abort", "aborted"]).await;
    producer.command(&["commit", "committed"]).await;

    let replies = Topic::open(plaintext, PONG).await.read(0, sent.len()).await;
    let answered: Vec<_> = replies
        .into_iter()
        .map(|reply| String::from_utf8(reply.record.key.unwrap()).unwrap())
        .collect();
    assert_eq!(answered, sent);
}
