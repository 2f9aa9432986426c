//! Requests that nobody waits for any more are not worth answering.

use std::cell::Cell;

use e2e::{
    engine::Engine,
    http::get,
    process::Process,
    scene::Scene,
    topic::Topic,
    wait::{SOON, until, until_eq},
};
use futures_util::future::join_all;
use rustix::process::Signal;

use crate::load::reply_ids;

const EXPIRED: &str = "worker_records_skipped_total{reason=\"expired\"}";

/// Timeouts of 500 ms that make older requests exceed the margin of 1 s.
const NEWER: usize = 3;

/// Asks so many times at once, and is answered only that it took too long.
async fn in_vain(gateway: &Process, count: usize) {
    for answer in join_all((0..count).map(|_| gateway.get("/ping"))).await {
        assert_eq!(answer.error(), (500, "timeout waiting for response".to_owned()));
    }
}

async fn id_at(ping: &Topic, offset: i64) -> String {
    String::from_utf8(ping.read_one(offset).await.key.unwrap()).unwrap()
}

/// The newest request of a backlog gives the clock skew: the others are as old as they are before it.
pub(crate) async fn are_kept_by_a_worker_that_was_not_there(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let gateway = scene.gateway().set("REPLY_TIMEOUT", "1s").ready().await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());

    for _ in 0..2 {
        in_vain(&gateway, 5).await;
    }
    let mut last = gateway.connect().await;
    last.send(get("/ping")).await.unwrap();
    let id = id_at(&ping, 10).await;
    let worker = scene.worker().set("START_FROM", "earliest").ready().await;

    worker.until_metric("worker_requests_total", 11).await;
    // Those of the second round are within the margin, or just over it.
    let skipped = worker.metric(EXPIRED).await;
    assert!((5..=10).contains(&skipped), "{skipped}");
    until_eq("the others are answered", SOON, 11 - skipped, async || {
        i64::try_from(pong.read_all().await.len()).unwrap()
    })
    .await;
    let replied = reply_ids(&pong).await;
    assert!(replied.contains(&id), "{replied:?}");
    for offset in 0..5 {
        assert!(!replied.contains(&id_at(&ping, offset).await), "{offset}");
    }
}

pub(crate) async fn are_kept_by_a_worker_that_was_stopped(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    // So short that the fetch which the worker has out is not given up meanwhile.
    let gateway = scene.gateway().set("REPLY_TIMEOUT", "500ms");
    // Without heartbeats the gateway does not refuse callers while the worker is stopped.
    let worker = scene.worker().set("ANNOUNCE_INTERVAL", "0");
    let (gateway, worker) = tokio::join!(gateway.ready(), worker.ready());
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());
    // Nothing expires before a request was read at the end of the partition.
    until_eq("a request is answered", SOON, 200, async || {
        gateway.get("/ping").await.status
    })
    .await;
    let (asked, answered) = (ping.read_all().await.len(), pong.read_all().await.len());

    worker.signal(Signal::STOP);
    // The first one is all that this fetch gives, and lies there until the worker goes on.
    let others = async {
        until("the first is in the log", SOON, async || {
            (ping.read_all().await.len() > asked).then_some(())
        })
        .await;
        in_vain(&gateway, 5).await;
    };
    tokio::join!(in_vain(&gateway, 1), others);
    // The others are older than their timeout and the margin of 1 s then.
    for _ in 0..NEWER {
        in_vain(&gateway, 1).await;
    }
    worker.signal(Signal::CONT);

    // One that is answered too late for its caller has a reply all the same.
    let probes = Cell::new(0);
    until_eq("a request is answered", SOON, 200, async || {
        probes.set(probes.get() + 1);
        gateway.get("/ping").await.status
    })
    .await;
    let skipped = worker.metric(EXPIRED).await;
    assert!(skipped >= 6, "{skipped}");
    let late = pong.read_all().await.len() - answered;
    assert!(late <= NEWER + probes.get(), "{late} replies");
}
