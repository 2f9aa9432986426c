//! Passwords, tokens and certificates that change while gateway and worker run: no restart is needed.

use std::{fs, time::Duration};

use e2e::{
    process::Setup,
    secure_cluster::{Listener, SecureCluster},
    wait::until,
};
use tokio::time::{Instant, sleep};

use crate::security::{CAUSE_LIMIT, log_in, request, until_cause};

/// How long a login lasts (`connections.max.reauth.ms` in `main.rs`).
const SESSION: Duration = Duration::from_secs(5);

/// A gateway or worker with SCRAM over TLS, and its password in a file.
async fn with_password_file(cluster: &SecureCluster, setup: Setup, user: &str) -> Setup {
    let setup = log_in(cluster, setup, user, Listener::SaslSsl, "SCRAM-SHA-512").await;
    let file = cluster.write_file(&format!("{user}.password"), cluster.password(user));
    setup.unset("KAFKA_SASL_PASSWORD").set("KAFKA_SASL_PASSWORD_FILE", file)
}

pub(crate) async fn sessions_are_renewed_without_an_error(cluster: &SecureCluster) {
    let gateway = log_in(cluster, Setup::gateway(), "gateway", Listener::SaslSsl, "SCRAM-SHA-512").await;
    let worker = log_in(
        cluster,
        Setup::worker(),
        "worker",
        Listener::SaslPlaintext,
        "OAUTHBEARER",
    )
    .await;
    let worker = worker.set(
        "KAFKA_SASL_OAUTHBEARER_TOKEN_FILE",
        cluster.token_file("worker", 12).await,
    );
    let (gateway, worker) = tokio::join!(gateway.ready(), worker.ready());
    // Before its first group is known, a new node has no coordinator for a moment.
    let lines = [&gateway, &worker].map(|process| process.log().len());
    let begun = Instant::now();
    let mut rotated = Instant::now();
    while begun.elapsed() < 4 * SESSION {
        assert_eq!(request(&gateway).await, 200, "after {:?}", begun.elapsed());
        if rotated.elapsed() > SESSION {
            rotated = Instant::now();
            let _ = cluster.token_file("worker", 12).await;
        }
        sleep(Duration::from_millis(100)).await;
    }
    // The broker closes a connection whose session has ended: these were renewed.
    for (process, lines) in [&gateway, &worker].into_iter().zip(lines) {
        let reconnects = format!("{}_kafka_tail_reconnects_total", process.name());
        assert_eq!(process.metric(&reconnects).await, 0, "{}", process.name());
        let log = process.log().split_off(lines);
        assert!(!log.iter().any(|line| line.contains("not ready")), "{log:?}");
    }
}

pub(crate) async fn changed_password_needs_no_restart(cluster: &SecureCluster) {
    let gateway = with_password_file(cluster, Setup::gateway(), "gateway").await;
    let worker = with_password_file(cluster, Setup::worker(), "worker").await;
    let (gateway, worker) = tokio::join!(gateway.ready(), worker.ready());
    assert_eq!(request(&gateway).await, 200);
    cluster
        .administer("password gateway another\npassword worker another")
        .await;
    for (process, user) in [(&gateway, "user gateway"), (&worker, "user worker")] {
        // A session begins with the old password at the latest just before it changes.
        let words = ["SaslAuthenticationFailed for", user, "KAFKA_SASL_PASSWORD"];
        until_cause(process, &words, SESSION + CAUSE_LIMIT).await;
    }
    for user in ["gateway", "worker"] {
        let _ = cluster.write_file(&format!("{user}.password"), "another");
    }
    gateway.until_ready().await;
    worker.until_ready().await;
    assert_eq!(request(&gateway).await, 200);
}

pub(crate) async fn rotated_certificates_need_no_restart(cluster: &SecureCluster) {
    let copy = |from: &str, to: &str| {
        let pem = fs::read(cluster.tls_file(from)).unwrap();
        cluster.write_file(to, pem)
    };
    let gateway = log_in(cluster, Setup::gateway(), "gateway", Listener::SaslSsl, "PLAIN").await;
    let worker = log_in(cluster, Setup::worker(), "worker", Listener::Ssl, "").await;
    let worker = worker
        .set("KAFKA_SSL_CERTIFICATE_LOCATION", copy("worker.crt", "client.crt"))
        .set("KAFKA_SSL_KEY_LOCATION", copy("worker.key", "client.key"));
    let (gateway, worker) = tokio::join!(gateway.ready(), worker.ready());
    assert_eq!(request(&gateway).await, 200);

    // Connections outlive the certificates that they began with, so the node is started again.
    let _ = (copy("foreign.crt", "client.crt"), copy("foreign.key", "client.key"));
    cluster.replace_certificate("expired").await;
    cluster.run(&["kill", "1"]).await;
    cluster.run(&["start", "1"]).await;
    for process in [&gateway, &worker] {
        let words = [
            "the certificate of the broker expired",
            "renew the certificate of the broker",
        ];
        until_cause(process, &words, CAUSE_LIMIT).await;
    }
    cluster.replace_certificate("renewed").await;
    gateway.until_ready().await;
    until_cause(&worker, &["KAFKA_SSL_CERTIFICATE_LOCATION"], CAUSE_LIMIT).await;
    let _ = (copy("worker.crt", "client.crt"), copy("worker.key", "client.key"));
    worker.until_ready().await;
    until("a request is answered again", CAUSE_LIMIT, async || {
        (request(&gateway).await == 200).then_some(())
    })
    .await;
}
