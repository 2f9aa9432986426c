//! Kinds of replies: each has a counter, and none a second caller.

use e2e::{engine::Engine, http::get, scene::Scene, topic::record};
use uuid::Uuid;

pub(crate) async fn are_each_counted_once(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let gateway = scene.gateway().ready().await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());
    let mut caller = gateway.connect().await;
    assert_eq!(caller.ask(get("/ping")).await.status, 500);
    let given_up = ping.read_one(0).await.key.unwrap();
    caller.send(get("/ping")).await.unwrap();
    let waiting = ping.read_one(1).await.key.unwrap();
    let unknown = Uuid::new_v4().to_string();

    let reply = |key: &[u8], value: &[u8]| record(Some(key), Some(value));
    pong.write_batch(vec![
        reply(&given_up, b"late"),
        reply(unknown.as_bytes(), b"foreign"),
        reply(b"no id", b"malformed"),
        reply(b"pingpong_worker", b""),
        reply(&waiting, b"answered"),
        reply(&waiting, b"duplicate"),
    ])
    .await;

    assert_eq!(caller.answer().await.message(), "answered");
    for kind in ["answered", "duplicate", "late", "foreign", "malformed", "announcement"] {
        let series = format!("gateway_replies_total{{kind=\"{kind}\"}}");
        gateway.until_metric(&series, 1).await;
    }
}
