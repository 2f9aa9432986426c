//! Consumer groups under load: members join, leave, are killed, paused or fenced, and every request is answered.

use std::{collections::HashSet, time::Duration};

use broker::{ApiKey, Faults, ResponseError};
use e2e::{
    cluster::Cluster,
    engine::Engine,
    fixture::Fixture,
    process::Process,
    topic::{Topic, create},
    wait::{WAIT_LIMIT, until, until_eq},
};
use futures_util::future::join_all;
use rustix::process::Signal;

use crate::{
    coordinator::coordinator_node,
    load::{Running, assert_answered, reply_ids},
};

const PARTITIONS: i32 = 12;

/// Requests per second. Binaries with debug assertions are much slower.
const RATE: u32 = if cfg!(debug_assertions) { 300 } else { 5_000 };

/// A rebalance without a failure must not wait for a session timeout, which is 4 s here and 3.5 s after the last
/// heartbeat at the least.
const REBALANCE_LIMIT: Duration = Duration::from_millis(3_500);

/// No worker is present.
const NO_WORKER: u16 = 503;

/// A request was not sent, or has no reply in time.
const FAILED: u16 = 500;

/// A request topic with [`PARTITIONS`], and a gateway that uses them all.
async fn gateway_at(brokers: &str) -> (Fixture, Process) {
    let fixture = Fixture::at(brokers);
    create(brokers, fixture.ping_name(), PARTITIONS).await;
    let gateway = fixture.gateway().set("REQUEST_PARTITIONS", "all").ready().await;
    (fixture, gateway)
}

/// Two members with six partitions each.
async fn two_members(fixture: &Fixture) -> (Process, Process) {
    let (one, two) = tokio::join!(fixture.member().ready(), fixture.member().ready());
    until_assigned(&[&one, &two], &[6, 6]).await;
    (one, two)
}

/// Waits until the members have these numbers of partitions and are ready: a new group starts at the latest offsets.
async fn until_assigned(workers: &[&Process], expected: &[i64]) {
    until_eq("assigned partitions", WAIT_LIMIT, expected.to_owned(), async || {
        join_all(workers.iter().map(|worker| worker.metric("worker_partitions"))).await
    })
    .await;
    join_all(workers.iter().map(|worker| worker.until_ready())).await;
}

/// Waits until a second's worth of further requests is answered.
async fn until_answered(gateway: &Process) {
    let series = "gateway_requests_total{outcome=\"answered\",status=\"200\",route=\"GET, POST /ping\"}";
    let enough = gateway.metric(series).await + i64::from(RATE);
    until("more responses", WAIT_LIMIT, async || {
        (gateway.metric(series).await >= enough).then_some(())
    })
    .await;
}

/// Starts the load and waits until it runs.
async fn start_load(gateway: &Process) -> Running {
    let load = Running::start(gateway.http(), RATE);
    until_answered(gateway).await;
    load
}

/// Every request in the log has a reply, in time or not.
async fn assert_all_replied(fixture: &Fixture) {
    let pong = fixture.pong().await;
    let replied: HashSet<String> = reply_ids(&pong).await.into_iter().collect();
    for partition in 0..PARTITIONS {
        let ping = Topic::partition(fixture.brokers(), fixture.ping_name(), partition).await;
        let requests = ping.read_all().await.into_iter();
        let missing: Vec<_> = requests
            .filter(|read| !replied.contains(&*String::from_utf8_lossy(read.record.key.as_ref().unwrap())))
            .map(|read| (read.offset, read.record.timestamp))
            .collect();
        assert!(missing.is_empty(), "no reply in partition {partition}: {missing:?}");
    }
}

/// A third member joins, and the first one shuts down.
pub(crate) async fn rebalance_moves_partitions_without_a_gap(engine: &Engine) {
    let (fixture, gateway) = gateway_at(engine.brokers().await).await;
    let (mut one, two) = two_members(&fixture).await;

    let load = start_load(&gateway).await;
    let three = fixture.member().ready().await;
    until_assigned(&[&one, &two, &three], &[4, 4, 4]).await;
    until_answered(&gateway).await;
    one.signal(Signal::TERM);
    assert_eq!(one.exit(WAIT_LIMIT).await, 0);
    until_assigned(&[&two, &three], &[6, 6]).await;
    until_answered(&gateway).await;
    let report = load.finish().await;

    assert_answered(&report, &[]);
    let longest = report.latency_at(1.0);
    assert!(longest < REBALANCE_LIMIT, "a request waited {longest:?}");
    // No request was processed by two members.
    assert_eq!(gateway.metric("gateway_replies_total{kind=\"duplicate\"}").await, 0);
}

/// One worker, then four; then one is killed and one shuts down.
pub(crate) async fn group_grows_and_shrinks_under_load(engine: &Engine) {
    let (fixture, gateway) = gateway_at(engine.brokers().await).await;
    let mut one = fixture.member().ready().await;
    until_assigned(&[&one], &[12]).await;

    let load = start_load(&gateway).await;
    let member = || fixture.member().ready();
    let (two, three, four) = tokio::join!(member(), member(), member());
    until_assigned(&[&one, &two, &three, &four], &[3, 3, 3, 3]).await;
    until_answered(&gateway).await;
    two.signal(Signal::KILL);
    one.signal(Signal::TERM);
    assert_eq!(one.exit(WAIT_LIMIT).await, 0);
    until_assigned(&[&three, &four], &[6, 6]).await;
    until_answered(&gateway).await;
    let report = load.finish().await;

    assert_all_replied(&fixture).await;
    assert_answered(&report, &[]);
}

/// The session of a paused member ends, so it has lost its partitions when it resumes.
pub(crate) async fn paused_member_loses_its_partitions_and_rejoins(engine: &Engine) {
    let (fixture, gateway) = gateway_at(engine.brokers().await).await;
    let (one, two) = two_members(&fixture).await;

    let load = start_load(&gateway).await;
    one.signal(Signal::STOP);
    until_assigned(&[&two], &[12]).await;
    until_answered(&gateway).await;
    one.signal(Signal::CONT);
    one.until_logged("all partitions are lost").await;
    until_assigned(&[&one, &two], &[6, 6]).await;
    until_answered(&gateway).await;
    let report = load.finish().await;

    assert_answered(&report, &[]);
}

pub(crate) async fn killed_group_is_resumed_by_a_new_member(engine: &Engine) {
    let (fixture, gateway) = gateway_at(engine.brokers().await).await;
    let (one, two) = two_members(&fixture).await;

    let load = start_load(&gateway).await;
    for worker in [&one, &two] {
        worker.signal(Signal::KILL);
    }
    let three = fixture.member().ready().await;
    until_assigned(&[&three], &[12]).await;
    until_answered(&gateway).await;
    let report = load.finish().await;

    assert_all_replied(&fixture).await;
    // The session timeout is shorter than REPLY_TIMEOUT, but longer than the presence limit.
    assert_answered(&report, &[NO_WORKER]);
}

/// The coordinator of Kafka is killed; the built-in broker only moves it.
pub(crate) async fn coordinator_change_is_followed(cluster: &Cluster) {
    let (fixture, gateway) = gateway_at(cluster.brokers()).await;
    let (one, two) = two_members(&fixture).await;

    let coordinator = coordinator_node(cluster.brokers(), fixture.group_name()).await;
    let load = start_load(&gateway).await;
    match cluster.faults() {
        Some(faults) => {
            let next = i32::try_from(coordinator % 3 + 1).unwrap();
            faults.move_coordinator(fixture.group_name(), next).unwrap();
        }
        None => cluster.kill(coordinator).await,
    }
    until_answered(&gateway).await;
    // The killed node was also the leader of partitions.
    let other: &[u16] = match cluster.faults() {
        Some(_) => &[],
        None => &[FAILED, NO_WORKER],
    };
    assert_answered(&load.finish().await, other);

    // The group works: a new member gets its share.
    let three = fixture.member().ready().await;
    until_assigned(&[&one, &two, &three], &[4, 4, 4]).await;
    until("100 requests in a row are answered", WAIT_LIMIT, async || {
        for _ in 0..100 {
            if gateway.get("/ping").await.status != 200 {
                return None;
            }
        }
        Some(())
    })
    .await;
    assert_all_replied(&fixture).await;
    if cluster.faults().is_none() {
        cluster.start(coordinator).await;
    }
}

pub(crate) async fn fenced_members_rejoin(cluster: &Cluster) {
    let faults = cluster.faults().expect("it runs on the built-in broker");
    let (fixture, gateway) = gateway_at(cluster.brokers()).await;
    let (one, two) = two_members(&fixture).await;

    let load = start_load(&gateway).await;
    for member in faults.members(fixture.group_name()) {
        faults.fence_member(fixture.group_name(), &member).unwrap();
    }
    for worker in [&one, &two] {
        worker.until_logged("all partitions are lost").await;
    }
    until_assigned(&[&one, &two], &[6, 6]).await;
    until_answered(&gateway).await;
    let report = load.finish().await;

    assert_answered(&report, &[]);
}

pub(crate) async fn broker_without_consumer_groups_is_not_ready(cluster: &Cluster) {
    let faults = cluster.faults().expect("it runs on the built-in broker");
    for (error, advice) in [
        (ResponseError::UnsupportedVersion, "PARTITIONS"),
        (ResponseError::GroupAuthorizationFailed, "allow Read"),
    ] {
        faults.refuse(ApiKey::ConsumerGroupHeartbeat, error, Faults::ALWAYS);
        let worker = Fixture::on(cluster).member().start().await;
        until("the worker retries", WAIT_LIMIT, async || {
            (faults.seen(ApiKey::ConsumerGroupHeartbeat) >= 3).then_some(())
        })
        .await;
        let line = worker.until_logged_once(advice).await;
        assert!(
            line.contains("WARN") && line.contains("health_check=\"group\""),
            "{line}"
        );
        let (status, causes) = worker.page("/ready").await;
        assert!(status == 503 && causes.contains(advice), "{causes}");

        faults.heal();
        worker.until_ready().await;
    }
}
