//! Worker presence: heartbeats in the reply topic, and 503 when they stop.

use std::time::Duration;

use broker::Poison;
use e2e::{
    cluster::Cluster,
    engine::Engine,
    fixture::Fixture,
    process::Process,
    topic::{Topic, create, record},
    wait::{WAIT_LIMIT, until, until_eq},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// Three missed heartbeats of one second each.
const SILENCE_LIMIT: Duration = Duration::from_secs(3);

async fn until_heartbeats(pong: &Topic, count: usize) {
    until("heartbeats", WAIT_LIMIT, async || {
        (pong.heartbeats().await >= count).then_some(())
    })
    .await;
}

/// Waits until the gateway has read a heartbeat.
async fn until_present(gateway: &Process) {
    until("a heartbeat is read", WAIT_LIMIT, async || {
        let read = gateway.metric("gateway_replies_total{kind=\"announcement\"}").await;
        (read > 0).then_some(())
    })
    .await;
}

async fn refused(gateway: &Process) -> i64 {
    let series = "gateway_requests_total{outcome=\"no_worker\",status=\"503\",route=\"GET, POST /ping\"}";
    gateway.metric(series).await
}

pub(crate) async fn worker_killed_returns_503_until_the_next_is_ready(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (gateway, worker) = fixture.pair().await;
    until_present(&gateway).await;

    let killed = Instant::now();
    worker.signal(Signal::KILL);
    gateway.until_logged("no heartbeat and no reply").await;
    // The last heartbeat may be one second old at the kill.
    let waited = killed.elapsed();
    assert!(waited >= SILENCE_LIMIT - Duration::from_millis(1_200), "{waited:?}");
    for _ in 0..3 {
        let start = Instant::now();
        let response = gateway.get("/ping").await;
        assert_eq!(response.error(), (503, "no worker available".to_owned()));
        assert_eq!(response.header("retry-after"), Some("1"));
        assert!(start.elapsed() < SILENCE_LIMIT, "{:?}", start.elapsed());
    }
    assert_eq!(refused(&gateway).await, 3);
    assert_eq!(gateway.page("/ready").await.0, 200);

    let _next = fixture.worker().ready().await;
    gateway.until_logged("a worker is there again").await;
    assert_eq!(gateway.get("/ping").await.status, 200);
}

pub(crate) async fn workers_are_listed_and_marked_when_silent(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let worker = fixture.member().set("KAFKA_CLIENT_ID", "pinger");
    let (gateway, worker) = tokio::join!(fixture.gateway().ready(), worker.ready());
    let listed = async || {
        let (status, body) = gateway.page("/workers").await;
        assert_eq!(status, 200);
        let page: Value = serde_json::from_str(&body).unwrap();
        let workers = page["workers"].as_array().unwrap().clone();
        assert!(workers.len() <= 1 && page["truncated"] == false, "{page}");
        workers.into_iter().next()
    };
    assert_eq!(gateway.get("/ping").await.status, 200);
    let present = until("the worker is listed with its request", WAIT_LIMIT, async || {
        listed().await.filter(|worker| worker["handled"] == 1)
    })
    .await;
    for (member, expected) in [
        ("name", json!("pinger")),
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("group", json!(fixture.group_name())),
        ("topics", json!([fixture.ping_name()])),
        ("partitions", json!({ (fixture.ping_name()): [0] })),
        ("in_flight", json!(0)),
        ("failed", json!(0)),
        ("present", json!(true)),
    ] {
        assert_eq!(present[member], expected, "{member}: {present}");
    }
    assert_eq!(present["id"].as_str().unwrap().len(), 36);
    let count = format!("gateway_workers{{topic=\"{}\"}}", fixture.ping_name());
    assert_eq!(gateway.metric(&count).await, 1);

    worker.signal(Signal::KILL);
    let silent = until("the worker is marked", WAIT_LIMIT, async || {
        listed().await.filter(|worker| worker["present"] == false)
    })
    .await;
    assert!(silent["silent_ms"].as_u64() >= Some(3_000), "{silent}");
    assert_eq!(silent["id"], present["id"]);
    assert_eq!(gateway.metric(&count).await, 0);
}

/// Records behind an open transaction cannot be read yet, so their absence is not silence.
pub(crate) async fn open_transaction_holds_back_no_replies(cluster: &Cluster) {
    let producer_id = 7;
    let faults = cluster.faults().expect("it runs on the built-in broker");
    let fixture = Fixture::on(cluster);
    let (gateway, _worker) = fixture.pair().await;
    until_present(&gateway).await;

    let pong = fixture.pong_name();
    faults
        .append(pong, 0, Poison::OpenTransaction { producer_id }, 1)
        .unwrap();
    let response = gateway.get("/ping").await;
    assert_eq!(response.status, 200, "{response:?}");
    // The passing of time is the condition here: the heartbeats behind the transaction are read as well.
    sleep(SILENCE_LIMIT + Duration::from_millis(1_500)).await;
    let response = gateway.get("/ping").await;
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(refused(&gateway).await, 0);
}

pub(crate) async fn heartbeats_can_be_switched_off(engine: &Engine) {
    let (silent, default) = (Fixture::shared(engine).await, Fixture::shared(engine).await);
    let silent_worker = silent.worker().set("ANNOUNCE_INTERVAL", "0");
    let (_silent, _default, gateway) = tokio::join!(
        silent_worker.ready(),
        default.worker().ready(),
        silent.gateway().ready()
    );
    assert_eq!(gateway.get("/ping").await.status, 200);

    // The heartbeats of the default worker measure the time.
    until_heartbeats(&default.pong().await, 3).await;
    assert_eq!(silent.pong().await.end().await, 1);
}

pub(crate) async fn heartbeats_go_to_every_partition_of_the_reply_topic_only(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    create(fixture.brokers(), fixture.pong_name(), 3).await;
    let other_name = format!("pong-other-{}", Uuid::new_v4().simple());
    let other = Topic::open(fixture.brokers(), &other_name).await;
    let _worker = fixture.worker().set("REPLY_TOPICS", "pong-*").ready().await;
    let value = json!({ "id": "id", "name": "n", "value": "v" }).to_string();
    let mut request = record(None, Some(value.as_bytes()));
    request.headers = [("kafka_replyTopic".to_owned(), other_name.into_bytes())].into();
    fixture.ping().await.write_batch(vec![request]).await;
    other.read(0, 1).await;

    for partition in 0..3 {
        let pong = Topic::partition(fixture.brokers(), fixture.pong_name(), partition).await;
        until_heartbeats(&pong, 3).await;
    }
    until_eq("the reply is the only record", WAIT_LIMIT, 1, async || {
        other.end().await
    })
    .await;
}
