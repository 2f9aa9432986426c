//! Callers that wait: until their time is over, or until they go away.

use std::time::Duration;

use e2e::{engine::Engine, http::get, scene::Scene};
use tokio::time::Instant;

pub(crate) async fn ends_when_no_reply_comes_in_time(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let gateway = scene.gateway().set("REPLY_TIMEOUT", "12s").ready().await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());

    let mut caller = gateway.connect().await;
    let start = Instant::now();
    let answer = caller.ask(get("/ping")).await;
    let waited = start.elapsed();

    assert_eq!(answer.status, 500);
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(answer.text(), r#"{"error":"timeout waiting for response"}"#);
    assert!(
        (Duration::from_secs(12)..Duration::from_secs(24)).contains(&waited),
        "{waited:?}"
    );
    gateway.until_metric("gateway_in_flight", 0).await;

    // The reply that comes too late finds nobody, and harms nobody.
    let late = ping.read_one(0).await.key.unwrap();
    pong.write(Some(&late), Some(b"late")).await;
    gateway.until_metric("gateway_replies_total{kind=\"late\"}", 1).await;
    caller.send(get("/ping")).await.unwrap();
    let next = ping.read_one(1).await.key.unwrap();
    pong.write(Some(&late), Some(b"later still")).await;
    pong.write(Some(&next), Some(b"in time")).await;
    assert_eq!(caller.answer().await.message(), "in time");
    let series = "gateway_requests_total{outcome=\"timeout\",status=\"500\"}";
    assert_eq!(gateway.metric(series).await, 1);
}

pub(crate) async fn ends_for_many_at_once(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let gateway = scene.gateway().set("REPLY_TIMEOUT", "2s").ready().await;

    let callers = (0..500).map(async |_| {
        let start = Instant::now();
        let answer = gateway.get("/ping").await;
        (answer.error(), start.elapsed())
    });
    for (error, waited) in futures_util::future::join_all(callers).await {
        assert_eq!(error, (500, "timeout waiting for response".to_owned()));
        // The wait begins when the gateway has read the request: on a busy machine, that is not at once.
        assert!(
            (Duration::from_secs(2)..Duration::from_secs(15)).contains(&waited),
            "{waited:?}"
        );
    }
    gateway.until_metric("gateway_in_flight", 0).await;
}

pub(crate) async fn ends_when_the_caller_leaves(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let gateway = scene
        .gateway()
        .set("REPLY_TIMEOUT", "10m")
        .set("MAX_IN_FLIGHT", "50")
        .ready()
        .await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());

    let mut callers = Vec::new();
    for _ in 0..50 {
        let mut caller = gateway.connect().await;
        caller.send(get("/ping")).await.unwrap();
        callers.push(caller);
    }
    gateway.until_metric("gateway_in_flight", 50).await;
    drop(callers);
    gateway.until_metric("gateway_in_flight", 0).await;
    let gone = "gateway_requests_total{outcome=\"client_gone\",status=\"499\"}";
    assert_eq!(gateway.metric(gone).await, 50);

    // Their replies find nobody, and their places are free.
    let requests = ping.read(0, 50).await;
    let replies = requests.into_iter().map(|mut it| {
        it.record.value = Some(b"too late".to_vec());
        it.record
    });
    pong.write_batch(replies.collect()).await;
    gateway.until_metric("gateway_replies_total{kind=\"late\"}", 50).await;
    let mut caller = gateway.connect().await;
    caller.send(get("/ping")).await.unwrap();
    let key = ping.read_one(50).await.key.unwrap();
    pong.write(Some(&key), Some(b"in time")).await;
    assert_eq!(caller.answer().await.message(), "in time");
}
