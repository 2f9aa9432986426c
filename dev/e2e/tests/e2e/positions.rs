//! Where a worker goes on: where the last one was, whatever became of that one.

use std::{collections::BTreeSet, time::Duration};

use e2e::{
    engine::Engine,
    environment::has,
    kcat,
    scene::Scene,
    topic::Topic,
    wait::{SOON, until},
};
use libtest_mimic::Completion;
use rustix::process::Signal;

use crate::{
    coordinator::Coordinator,
    load::{assert_answered, open_loop, reply_ids, write_request},
};

/// The group of a worker that was told no other.
const GROUP: &str = "worker-static";

async fn until_replies(pong: &Topic, ids: &[&str]) {
    pong.read(0, ids.len()).await;
    assert_eq!(reply_ids(pong).await, ids);
}

pub(crate) async fn outlive_an_orderly_end(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let mut worker = scene.worker().ready().await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());
    write_request(&ping, "first").await;
    until_replies(&pong, &["first"]).await;

    worker.signal(Signal::TERM);
    assert_eq!(worker.exit(SOON).await, 0);
    for id in ["second", "third"] {
        write_request(&ping, id).await;
    }
    let successor = scene.worker().ready().await;

    // Those, and not the first again.
    until_replies(&pong, &["first", "second", "third"]).await;
    assert_eq!(successor.metric("worker_requests_total").await, 2);
    Coordinator::of(&scene, GROUP).await.until_position(0, 3).await;
}

pub(crate) async fn outlive_a_kill_under_load(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (gateway, mut worker) = scene.pair().await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());

    let load = tokio::spawn(open_loop(gateway.http(), 300, Duration::from_secs(6)).run());
    for round in 1..=2 {
        until("the load is on", SOON, async || {
            (ping.end().await > round * 400).then_some(())
        })
        .await;
        worker.signal(Signal::KILL);
        worker = scene.worker().ready().await;
    }
    let report = load.await.unwrap().unwrap();

    // On a busy machine the next worker may take so long that callers are told that there is none.
    assert_answered(&report, &[503]);
    let sent: BTreeSet<String> = ping
        .read_all()
        .await
        .into_iter()
        .map(|it| String::from_utf8(it.record.key.unwrap()).unwrap())
        .collect();
    let replied: BTreeSet<String> = reply_ids(&pong).await.into_iter().collect();
    assert!(sent == replied, "{:?}", sent.symmetric_difference(&replied));
    // What was done twice was for the same callers.
    for kind in ["foreign", "malformed", "late"] {
        let series = format!("gateway_replies_total{{kind=\"{kind}\"}}");
        assert_eq!(gateway.metric(&series).await, 0, "{kind}");
    }
}

/// Nothing was ever read of it, and still it is known where it was begun.
pub(crate) async fn begin_with_the_start_of_a_quiet_partition(engine: &Engine) {
    // Several times: the less time there is between ready and dead, the more it says.
    for _ in 0..5 {
        let scene = Scene::shared(engine).await;
        let (ping, pong) = tokio::join!(scene.ping(), scene.pong());
        write_request(&ping, "before").await;
        let mut worker = scene.worker().ready().await;

        worker.signal(Signal::KILL);
        worker.exit(SOON).await;
        write_request(&ping, "meanwhile").await;
        let _successor = scene.worker().ready().await;

        until_replies(&pong, &["meanwhile"]).await;
    }
}

pub(crate) async fn that_left_the_log_are_its_beginning(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let mut worker = scene.worker().ready().await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());
    write_request(&ping, "done").await;
    until_replies(&pong, &["done"]).await;
    worker.signal(Signal::TERM);
    assert_eq!(worker.exit(SOON).await, 0);

    for id in ["lost 1", "lost 2", "kept"] {
        write_request(&ping, id).await;
    }
    ping.delete_before(3).await;
    let successor = scene.worker().ready().await;

    until_replies(&pong, &["done", "kept"]).await;
    assert_eq!(successor.metric("worker_kafka_tail_records_lost_total").await, 2);
    let line = successor.logged_once("left the log").await;
    assert!(line.contains("lost=2"), "{line}");
}

pub(crate) async fn are_left_alone_by_latest_and_earliest(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let mut worker = scene.worker().ready().await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());
    write_request(&ping, "1").await;
    until_replies(&pong, &["1"]).await;
    worker.signal(Signal::TERM);
    assert_eq!(worker.exit(SOON).await, 0);
    write_request(&ping, "2").await;

    let mut latest = scene.worker().set("START_FROM", "latest").ready().await;
    write_request(&ping, "3").await;
    until_replies(&pong, &["1", "3"]).await;
    latest.signal(Signal::TERM);
    assert_eq!(latest.exit(SOON).await, 0);

    let _earliest = scene.worker().set("START_FROM", "earliest").ready().await;
    until_replies(&pong, &["1", "3", "1", "2", "3"]).await;
}

/// Stepped over is done: the last records of a log hold no position back.
pub(crate) async fn pass_what_cannot_be_answered(engine: &Engine) -> Completion {
    if !has("kcat", "-V") {
        return Completion::ignored_with("kcat, which writes such batches, is not installed");
    }
    let scene = Scene::shared(engine).await;
    let mut worker = scene.worker().ready().await;
    let ping = scene.ping().await;
    let mut coordinator = Coordinator::of(&scene, GROUP).await;

    ping.write(None, Some(b"not JSON")).await;
    coordinator.until_position(0, 1).await;
    let lines: Vec<_> = (0..20).map(|_| vec![b'x'; 50]).collect();
    kcat::write(scene.brokers(), scene.ping_name(), &["-z", "lz4"], &lines).await;
    coordinator.until_position(0, 21).await;
    worker.signal(Signal::TERM);
    assert_eq!(worker.exit(SOON).await, 0);

    let successor = scene.worker().ready().await;
    write_request(&ping, "good").await;
    until_replies(&scene.pong().await, &["good"]).await;
    assert_eq!(successor.metric("worker_requests_total").await, 1);
    let undecodable = "worker_kafka_tail_records_undecodable_total";
    assert_eq!(successor.metric(undecodable).await, 0);
    Completion::Completed
}

/// The group has members of its own, so nobody else may commit.
pub(crate) async fn that_are_refused_harm_nobody(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());
    let group = scene.group_name();
    let mut coordinator = Coordinator::of(&scene, group).await;
    coordinator.join().await;
    let serving = async {
        let worker = scene.worker().set("POSITION_GROUP", group).ready().await;
        write_request(&ping, "1").await;
        until_replies(&pong, &["1"]).await;
        until("commits are refused", SOON, async || {
            let series = "worker_position_commits_total{outcome=\"failed\"}";
            (worker.metric(series).await >= 3).then_some(())
        })
        .await;
        worker.logged_once("positions cannot be kept").await;
        assert_eq!(worker.page("/ready").await.0, 200);
    };
    tokio::select! {
        () = coordinator.stay() => {}
        () = serving => {}
    }
}
