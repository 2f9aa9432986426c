//! Committed offsets: where a worker resumes after a shutdown, a kill, a deletion or a refused commit.

use std::{collections::BTreeSet, time::Duration};

use e2e::{
    engine::Engine,
    fixture::Fixture,
    process::Process,
    topic::Topic,
    wait::{WAIT_LIMIT, until},
};
use rustix::process::Signal;

use crate::{
    coordinator::Coordinator,
    load::{assert_answered, open_loop, reply_ids, write_request},
};

/// The group of a worker without `POSITION_GROUP`.
pub(crate) const DEFAULT_GROUP: &str = "worker-static";

async fn until_replies(pong: &Topic, ids: &[&str]) {
    pong.read(0, ids.len()).await;
    assert_eq!(reply_ids(pong).await, ids);
}

async fn shut_down(mut worker: Process) {
    worker.signal(Signal::TERM);
    assert_eq!(worker.exit(WAIT_LIMIT).await, 0);
}

pub(crate) async fn worker_shut_down_resumes_at_the_committed_offset(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let worker = fixture.worker().ready().await;
    let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());
    write_request(&ping, "first").await;
    until_replies(&pong, &["first"]).await;

    shut_down(worker).await;
    for id in ["second", "third"] {
        write_request(&ping, id).await;
    }
    let next = fixture.worker().ready().await;

    until_replies(&pong, &["first", "second", "third"]).await;
    assert_eq!(next.metric("worker_requests_total").await, 2);
    Coordinator::of(&fixture, DEFAULT_GROUP)
        .await
        .until_position(0, 3)
        .await;
}

pub(crate) async fn worker_killed_requests_are_answered_by_the_next(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (gateway, mut worker) = fixture.pair().await;
    let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());

    let load = tokio::spawn(open_loop(gateway.http(), 300, Duration::from_secs(6)).run());
    for round in 1..=2 {
        until("the load runs", WAIT_LIMIT, async || {
            (ping.end().await > round * 400).then_some(())
        })
        .await;
        worker.signal(Signal::KILL);
        worker = fixture.worker().ready().await;
    }
    let report = load.await.unwrap().unwrap();

    // On a busy machine the next worker may start too late for the presence limit.
    assert_answered(&report, &[503]);
    let requests = ping.read_all().await.into_iter();
    let sent: BTreeSet<_> = requests
        .map(|read| String::from_utf8(read.record.key.unwrap()).unwrap())
        .collect();
    let replied: BTreeSet<_> = reply_ids(&pong).await.into_iter().collect();
    assert!(sent == replied, "{:?}", sent.symmetric_difference(&replied));
    // A request that two workers processed has two replies, and both match it.
    for kind in ["foreign", "malformed", "late"] {
        let series = format!("gateway_replies_total{{kind=\"{kind}\"}}");
        assert_eq!(gateway.metric(&series).await, 0, "{kind}");
    }
}

/// A ready worker has committed its start offset, although it has read nothing.
pub(crate) async fn worker_killed_before_its_first_request_resumes_at_its_start(engine: &Engine) {
    // The race between ready and the commit would show in some of the rounds.
    for _ in 0..3 {
        let fixture = Fixture::shared(engine).await;
        let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());
        write_request(&ping, "before").await;
        let mut worker = fixture.worker().ready().await;

        worker.signal(Signal::KILL);
        worker.exit(WAIT_LIMIT).await;
        write_request(&ping, "between").await;
        let _next = fixture.worker().ready().await;

        until_replies(&pong, &["between"]).await;
    }
}

pub(crate) async fn deleted_records_are_counted_as_lost(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let worker = fixture.worker().ready().await;
    let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());
    write_request(&ping, "done").await;
    until_replies(&pong, &["done"]).await;
    shut_down(worker).await;

    for id in ["lost 1", "lost 2", "kept"] {
        write_request(&ping, id).await;
    }
    ping.delete_before(3).await;
    let next = fixture.worker().ready().await;

    until_replies(&pong, &["done", "kept"]).await;
    assert_eq!(next.metric("worker_kafka_tail_records_lost_total").await, 2);
    let line = next.until_logged_once("left the log").await;
    assert!(line.contains("lost=2"), "{line}");
}

pub(crate) async fn start_from_latest_and_earliest_ignore_the_committed_offset(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let worker = fixture.worker().ready().await;
    let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());
    write_request(&ping, "1").await;
    until_replies(&pong, &["1"]).await;
    shut_down(worker).await;
    write_request(&ping, "2").await;

    let latest = fixture.worker().set("START_FROM", "latest").ready().await;
    write_request(&ping, "3").await;
    until_replies(&pong, &["1", "3"]).await;
    shut_down(latest).await;

    let _earliest = fixture.worker().set("START_FROM", "earliest").ready().await;
    until_replies(&pong, &["1", "3", "1", "2", "3"]).await;
}

/// A group with members accepts commits from its members only.
pub(crate) async fn refused_commit_does_not_stop_the_worker(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());
    let group = fixture.group_name();
    let mut coordinator = Coordinator::of(&fixture, group).await;
    coordinator.join().await;
    let serving = async {
        let worker = fixture.worker().set("POSITION_GROUP", group).ready().await;
        write_request(&ping, "1").await;
        until_replies(&pong, &["1"]).await;
        until("commits are refused", WAIT_LIMIT, async || {
            let series = "worker_position_commits_total{outcome=\"failed\"}";
            (worker.metric(series).await >= 3).then_some(())
        })
        .await;
        worker.until_logged_once("cannot commit offsets").await;
        assert_eq!(worker.page("/ready").await.0, 200);
    };
    tokio::select! {
        () = coordinator.send_heartbeats() => {}
        () = serving => {}
    }
}
