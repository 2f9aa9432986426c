//! Requests without a reply: the caller's timeout, its disconnect, and the worker's check of the deadline.

use std::time::Duration;

use e2e::{
    engine::Engine,
    fixture::Fixture,
    http::get,
    wait::{WAIT_LIMIT, until_eq},
};
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::load::reply_ids;

pub(crate) async fn timeout_returns_500(engine: &Engine) {
    const REPLY_TIMEOUT: Duration = Duration::from_secs(3);

    let fixture = Fixture::shared(engine).await;
    let gateway = fixture.gateway().set("REPLY_TIMEOUT", "3s").ready().await;
    let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());

    let mut caller = gateway.connect().await;
    let start = Instant::now();
    let response = caller.exchange(get("/ping")).await;
    let waited = start.elapsed();

    assert_eq!(response.status, 500);
    assert_eq!(response.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(response.text(), r#"{"error":"timeout waiting for response"}"#);
    // Less than the default of 10 s.
    assert!((REPLY_TIMEOUT..3 * REPLY_TIMEOUT).contains(&waited), "{waited:?}");
    gateway.until_metric("gateway_in_flight", 0).await;
    let series = "gateway_requests_total{outcome=\"timeout\",status=\"500\",route=\"GET, POST /ping\"}";
    assert_eq!(gateway.metric(series).await, 1);

    // A late reply is counted and delivered to no other request.
    let late = ping.read_one(0).await.key.unwrap();
    pong.write(Some(&late), Some(b"late")).await;
    gateway.until_metric("gateway_replies_total{kind=\"late\"}", 1).await;
}

pub(crate) async fn client_disconnect_frees_its_place_in_flight(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let setup = fixture.gateway().set("REPLY_TIMEOUT", "10m").set("MAX_IN_FLIGHT", "50");
    let gateway = setup.ready().await;
    let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());

    let mut callers = Vec::new();
    for _ in 0..50 {
        let mut caller = gateway.connect().await;
        caller.send(get("/ping")).await.unwrap();
        callers.push(caller);
    }
    gateway.until_metric("gateway_in_flight", 50).await;
    drop(callers);
    gateway.until_metric("gateway_in_flight", 0).await;
    let gone = "gateway_requests_total{outcome=\"client_gone\",status=\"499\",route=\"GET, POST /ping\"}";
    assert_eq!(gateway.metric(gone).await, 50);

    let requests = ping.read(0, 50).await;
    let replies = requests.into_iter().map(|mut request| {
        request.record.value = Some(b"too late".to_vec());
        request.record
    });
    pong.write_batch(replies.collect()).await;
    gateway.until_metric("gateway_replies_total{kind=\"late\"}", 50).await;
    let mut caller = gateway.connect().await;
    caller.send(get("/ping")).await.unwrap();
    let key = ping.read_one(50).await.key.unwrap();
    pong.write(Some(&key), Some(b"in time")).await;
    assert_eq!(caller.response().await.message(), "in time");
}

/// The newest request of the backlog gives the clock skew. Relative to it, the first ones are older than the timeout and the
/// margin of 1 s.
pub(crate) async fn worker_skips_requests_past_their_deadline(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let gateway = fixture.gateway().set("REPLY_TIMEOUT", "1s").ready().await;
    let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());

    for _ in 0..3 {
        for response in join_all((0..5).map(|_| gateway.get("/ping"))).await {
            assert_eq!(response.error(), (500, "timeout waiting for response".to_owned()));
        }
    }
    let mut last = gateway.connect().await;
    last.send(get("/ping")).await.unwrap();
    let ids = ping.read(0, 16).await.into_iter();
    let ids: Vec<_> = ids
        .map(|read| String::from_utf8(read.record.key.unwrap()).unwrap())
        .collect();
    let worker = fixture.worker().set("START_FROM", "earliest").ready().await;

    worker.until_metric("worker_requests_total", 16).await;
    // Later ones are within the margin, or just over it.
    let skipped = worker.metric("worker_records_skipped_total{reason=\"expired\"}").await;
    assert!((5..=15).contains(&skipped), "{skipped}");
    until_eq("the rest is replied to", WAIT_LIMIT, 16 - skipped, async || {
        i64::try_from(pong.read_all().await.len()).unwrap()
    })
    .await;
    let replied = reply_ids(&pong).await;
    assert!(replied.contains(&ids[15]), "{replied:?}");
    assert!(!ids[..5].iter().any(|id| replied.contains(id)), "{replied:?}");
}
