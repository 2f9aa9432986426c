//! Outages: brokers are killed, paused or replaced, and gateway and worker recover without a restart.

use std::time::Duration;

use e2e::{
    cluster::{Cluster, NodeSettings},
    fixture::Fixture,
    http::{self, get},
    process::Process,
    wait::{WAIT_LIMIT, until, within},
};
use futures_util::future::join_all;
use rustix::process::Signal;
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval},
};

const NOT_SENT: &str = "failed to send message to Kafka";
const TIMED_OUT: &str = "timeout waiting for response";

/// Requests, one after the other, that have to be answered after each outage. On a busy machine one takes up to 250 ms with
/// three nodes, and some tests have nine recoveries within their limit.
const TURNS: usize = 20;

/// A broker with this setting closes idle connections.
pub(crate) const IDLE_CLOSED: NodeSettings = NodeSettings {
    max_idle: Some(Duration::from_secs(3)),
    ..NodeSettings::LONG_SESSION
};

/// Checks that an error during an outage is one of the two of the contract, never a 503.
fn assert_outage_error(response: &http::Response) {
    let (status, error) = response.error();
    assert!(
        status == 500 && [NOT_SENT, TIMED_OUT].contains(&&*error),
        "{response:?}"
    );
}

/// Waits until gateway and worker work again, without an unexpected error on the way.
async fn assert_recovers(gateway: &Process, worker: &Process) {
    until("requests are answered again", WAIT_LIMIT, async || {
        let response = gateway.get("/ping").await;
        if response.status != 200 {
            assert_outage_error(&response);
        }
        (response.status == 200).then_some(())
    })
    .await;
    tokio::join!(gateway.until_ready(), worker.until_ready());
    for turn in 0..TURNS {
        let body = serde_json::json!({ "name": "turn", "value": turn.to_string() }).to_string();
        let message = gateway.post("/ping", body).await.message();
        assert!(message.starts_with(&format!("turn {turn} ( ")), "{message}");
    }
    gateway.until_metric("gateway_in_flight", 0).await;
}

/// A gateway with this `REPLY_TIMEOUT` and a worker, after their first requests. The first one after a start of Kafka may
/// take seconds.
async fn pair(fixture: &Fixture, reply_timeout: &str) -> (Process, Process) {
    let gateway = fixture.gateway().set("REPLY_TIMEOUT", reply_timeout);
    let (gateway, worker) = tokio::join!(gateway.ready(), fixture.worker().ready());
    assert_recovers(&gateway, &worker).await;
    (gateway, worker)
}

pub(crate) async fn missing_broker_at_the_start_is_waited_for(cluster: &Cluster) {
    let fixture = Fixture::on(cluster);
    cluster.kill(1).await;
    let gateway = fixture.gateway().set("REPLY_TIMEOUT", "20s");
    let (gateway, worker) = tokio::join!(gateway.start(), fixture.worker().start());
    for process in [&gateway, &worker] {
        process.until_logged("not ready").await;
        assert_eq!(process.page("/live").await.0, 200);
        // A connection attempt that timed out has another cause than the next one.
        until("/ready names the cause", WAIT_LIMIT, async || {
            let (status, body) = process.page("/ready").await;
            assert_eq!(status, 503);
            (body.contains(fixture.brokers()) && body.contains("refused")).then_some(())
        })
        .await;
    }
    assert_eq!(gateway.get("/ping").await.error(), (503, "not ready".to_owned()));
    cluster.start(1).await;
    tokio::join!(gateway.until_ready(), worker.until_ready());
    assert_eq!(gateway.get("/ping").await.status, 200, "the first request when ready");
}

pub(crate) async fn killed_broker_returns_500_and_is_recovered_from(cluster: &Cluster) {
    let fixture = Fixture::on(cluster);
    let (gateway, worker) = pair(&fixture, "20s").await;

    cluster.kill(1).await;
    until("a request is not sent", WAIT_LIMIT, async || {
        let (status, error) = gateway.get("/ping").await.error();
        assert_eq!(status, 500);
        (error == NOT_SENT).then_some(())
    })
    .await;
    for process in [&gateway, &worker] {
        let causes = process.until_unready().await;
        assert!(
            causes.contains(fixture.brokers()) || causes.contains("Kafka"),
            "{causes}"
        );
        assert_eq!(process.page("/live").await.0, 200);
    }
    for _ in 0..10 {
        let start = Instant::now();
        let response = gateway.get("/ping").await;
        assert_eq!(response.text(), r#"{"error":"failed to send message to Kafka"}"#);
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }
    assert_eq!(gateway.metric("gateway_in_flight").await, 0);

    cluster.start(1).await;
    tokio::join!(gateway.until_ready(), worker.until_ready());
    assert_eq!(gateway.get("/ping").await.status, 200, "the first request when ready");
    assert_recovers(&gateway, &worker).await;
    for process in [&gateway, &worker] {
        assert_outage_is_logged(&fixture, process);
    }
}

/// The outage of each part has a beginning and an end in the log, and a line for each of a few causes: not for each attempt.
fn assert_outage_is_logged(fixture: &Fixture, process: &Process) {
    let log = process.log();
    let lines = |text: &str| log.iter().filter(|line| line.contains(text)).count();
    let parts = if process.name() == "gateway" {
        [
            format!("requests to {}", fixture.ping_name()),
            format!("replies in {}", fixture.pong_name()),
        ]
    } else {
        ["outbox".to_owned(), format!("requests of {}/0", fixture.ping_name())]
    };
    for part in parts {
        let begins = lines(&format!("not ready health_check=\"{part}\""));
        assert!((1..=5).contains(&begins), "{part}: {begins} in {log:?}");
        let ends = lines(&format!(" ready health_check=\"{part}\" age="));
        assert!((1..=begins).contains(&ends), "{part}: {ends} in {log:?}");
    }
}

/// The pause is longer than the silence after which a worker counts as gone: no request may get a 503.
pub(crate) async fn paused_broker_returns_500_in_time(cluster: &Cluster) {
    let fixture = Fixture::on(cluster);
    let (gateway, worker) = pair(&fixture, "5s").await;

    cluster.pause().await;
    let mut ticks = interval(Duration::from_millis(100));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut callers = Vec::new();
    // An open loop: no request waits for the response of another.
    for _ in 0..65 {
        ticks.tick().await;
        let addr = gateway.http();
        callers.push(tokio::spawn(async move {
            let start = Instant::now();
            let response = http::exchange(addr, get("/ping")).await;
            (response, start.elapsed())
        }));
    }
    let (gateway_causes, worker_causes) = tokio::join!(gateway.until_unready(), worker.until_unready());
    for causes in [gateway_causes, worker_causes] {
        // Which of them depends on the call that was in progress.
        let names_it = causes.contains(fixture.brokers()) || causes.contains("Kafka");
        assert!(names_it, "{causes}");
    }
    for caller in callers {
        let (response, waited) = caller.await.unwrap();
        // A request just before the pause may be answered.
        if response.status != 200 {
            assert_outage_error(&response);
        }
        assert!(waited < Duration::from_secs(10), "{waited:?}");
    }
    assert_eq!(gateway.metric("gateway_in_flight").await, 0);

    cluster.resume().await;
    assert_recovers(&gateway, &worker).await;
}

/// The producer is full by bytes although the number in flight is not at its limit.
pub(crate) async fn full_producer_returns_503(cluster: &Cluster) {
    /// 16 MiB hold 33 of these bodies, and four are being sent.
    const CALLERS: usize = 45;
    const REPLY_TIMEOUT: Duration = Duration::from_secs(8);

    let fixture = Fixture::on(cluster);
    let gateway = fixture.gateway().set("MAX_BODY", "512KiB").set("REPLY_TIMEOUT", "8s");
    let (gateway, worker) = tokio::join!(gateway.ready(), fixture.worker().ready());
    assert_recovers(&gateway, &worker).await;

    cluster.pause().await;
    let body = serde_json::json!({ "name": "large", "value": "x".repeat(500_000) }).to_string();
    // On a busy machine the first requests may time out before the last ones are read.
    until("requests are refused", WAIT_LIMIT, async || {
        let responses = join_all((0..CALLERS).map(|_| async {
            let start = Instant::now();
            (gateway.post("/ping", body.clone()).await, start.elapsed())
        }));
        let (refused, failed): (Vec<_>, Vec<_>) = responses
            .await
            .into_iter()
            .partition(|(response, _)| response.status == 503);
        for (response, waited) in &refused {
            assert_eq!(response.error().1, "too many requests in flight");
            assert_eq!(response.header("retry-after"), Some("1"));
            // It includes the time to read the body.
            assert!(*waited < 2 * REPLY_TIMEOUT, "{waited:?}");
        }
        for (response, _) in &failed {
            assert_outage_error(response);
        }
        assert!(!failed.is_empty(), "all requests are refused");
        (!refused.is_empty()).then_some(())
    })
    .await;

    cluster.resume().await;
    assert_recovers(&gateway, &worker).await;
}

pub(crate) async fn shutdown_during_an_outage_ends_in_time(cluster: &Cluster) {
    let fixture = Fixture::on(cluster);
    let (mut gateway, mut worker) = tokio::join!(
        fixture
            .gateway()
            .set("REPLY_TIMEOUT", "1m")
            .set("DRAIN_TIMEOUT", "2s")
            .ready(),
        fixture.worker().set("DRAIN_TIMEOUT", "2s").ready()
    );
    assert_recovers(&gateway, &worker).await;

    cluster.pause().await;
    let mut caller = gateway.connect().await;
    caller.send(get("/ping")).await.unwrap();
    gateway.until_metric("gateway_in_flight", 1).await;
    let start = Instant::now();
    for process in [&gateway, &worker] {
        process.signal(Signal::TERM);
    }
    // 503 at the end of the drain, or 500 when the producer fails earlier.
    let (status, _) = caller.response().await.error();
    assert!([500, 503].contains(&status), "{status}");
    for process in [&mut gateway, &mut worker] {
        assert_eq!(process.exit(Duration::from_secs(10)).await, 0);
    }
    // The drain and the last commit of the worker; the default of the drain is 8 s.
    assert!(start.elapsed() < Duration::from_secs(7), "{:?}", start.elapsed());
    cluster.resume().await;
}

/// A record without an acknowledgement may be in the log: its request waits on, and the record is not sent again.
pub(crate) async fn unacknowledged_request_is_not_sent_twice(cluster: &Cluster) {
    let fixture = Fixture::on(cluster);
    let (gateway, worker) = pair(&fixture, "2m").await;
    let ping = fixture.ping().await;
    let before = ping.end().await;

    cluster.pause().await;
    let mut caller = gateway.connect().await;
    caller.send(get("/ping")).await.unwrap();
    until("the producer drops its connection", WAIT_LIMIT, async || {
        let causes = gateway.until_unready().await;
        causes.contains("\"requests to ").then_some(())
    })
    .await;
    cluster.resume().await;

    assert_eq!(caller.response().await.status, 200);
    assert_eq!(ping.end().await, before + 1);
    assert_recovers(&gateway, &worker).await;
}

async fn lead(cluster: &Cluster, fixture: &Fixture, node: u32) {
    tokio::join!(
        cluster.lead(fixture.ping_name(), 0, node),
        cluster.lead(fixture.pong_name(), 0, node)
    );
}

pub(crate) async fn moved_leader_is_followed(cluster: &Cluster) {
    let fixture = Fixture::on(cluster);
    let (gateway, worker) = pair(&fixture, "5s").await;
    for node in [1, 2] {
        lead(cluster, &fixture, node).await;
        assert_recovers(&gateway, &worker).await;
    }
}

/// The leader is killed; the next one shuts down.
pub(crate) async fn ended_leader_is_replaced(cluster: &Cluster) {
    let fixture = Fixture::on(cluster);
    let (gateway, worker) = pair(&fixture, "5s").await;
    lead(cluster, &fixture, 2).await;
    assert_recovers(&gateway, &worker).await;
    cluster.kill(2).await;
    assert_recovers(&gateway, &worker).await;
    cluster.start(2).await;
    lead(cluster, &fixture, 3).await;
    cluster.term(3).await;
    assert_recovers(&gateway, &worker).await;
    cluster.start(3).await;
}

/// The connections to a paused leader stay open. One of the nodes also serves the metadata of gateway and worker.
pub(crate) async fn hung_leader_is_replaced(cluster: &Cluster) {
    let fixture = Fixture::on(cluster);
    let (gateway, worker) = pair(&fixture, "5s").await;
    for node in 1..=3 {
        lead(cluster, &fixture, node).await;
        assert_recovers(&gateway, &worker).await;
        cluster.pause_node(node).await;
        assert_recovers(&gateway, &worker).await;
        cluster.resume_node(node).await;
    }
    assert_recovers(&gateway, &worker).await;
}

pub(crate) async fn idle_connections_are_replaced(cluster: &Cluster) {
    let fixture = Fixture::on(cluster);
    let (gateway, worker) = fixture.pair().await;
    assert_recovers(&gateway, &worker).await;

    // Opened after the last request, so the broker closes it after those of gateway and worker.
    let mut idle = TcpStream::connect(fixture.brokers()).await.unwrap();
    let closed = within("the broker closes idle connections", WAIT_LIMIT, idle.read(&mut [0])).await;
    assert_eq!(closed.unwrap(), 0);

    assert_eq!(gateway.get("/ping").await.status, 200);
    for process in [&gateway, &worker] {
        assert_eq!(process.page("/ready").await.0, 200);
    }
}
