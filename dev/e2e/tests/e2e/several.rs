//! More than one of a kind on the same topics.

use e2e::{engine::Engine, process::Process, scene::Scene};
use futures_util::future::join_all;

async fn ask(gateway: &Process, name: &str) {
    let callers = (0..100).map(async |n| {
        let body = serde_json::json!({ "name": name, "value": n.to_string() }).to_string();
        let message = gateway.post("/ping", body).await.message();
        assert!(message.starts_with(&format!("{name} {n} ( ")), "{message}");
    });
    join_all(callers).await;
}

pub(crate) async fn gateways_each_answer_their_own_callers(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (one, other, _worker) = tokio::join!(scene.gateway().ready(), scene.gateway().ready(), scene.worker().ready());

    tokio::join!(ask(&one, "one"), ask(&other, "other"));

    for gateway in [&one, &other] {
        assert_eq!(gateway.metric("gateway_replies_total{kind=\"answered\"}").await, 100);
        // What is for the other is normal, and no reason for a warning.
        gateway
            .until_metric("gateway_replies_total{kind=\"foreign\"}", 100)
            .await;
        assert!(
            !gateway
                .log()
                .iter()
                .any(|it| it.contains(" WARN ") && !it.contains("not ready"))
        );
    }
}

pub(crate) async fn workers_on_one_partition_lead_to_one_answer_each(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (gateway, _one, _other) = tokio::join!(scene.gateway().ready(), scene.worker().ready(), scene.worker().ready());

    ask(&gateway, "n").await;

    let pong = scene.pong().await;
    e2e::wait::until_eq("both have replied", e2e::wait::SOON, 200, async || {
        pong.read_all().await.len()
    })
    .await;
    assert_eq!(gateway.metric("gateway_replies_total{kind=\"answered\"}").await, 100);
    e2e::wait::until_eq("the others are counted", e2e::wait::SOON, 100, async || {
        gateway.metric("gateway_replies_total{kind=\"duplicate\"}").await
    })
    .await;
}
