//! Workers of a group share the partitions: whoever comes or goes, every caller who is still waiting is answered.

use std::{collections::HashSet, time::Duration};

use e2e::{
    cluster::Cluster,
    engine::Engine,
    process::Process,
    scene::Scene,
    topic::{Topic, create},
    wait::{SOON, until, until_eq},
};
use futures_util::future::join_all;
use libtest_mimic::Completion;
use rustix::process::Signal;

use crate::{
    coordinator::node,
    load::{Running, assert_answered, reply_ids},
};

const PARTITIONS: i32 = 12;

/// Requests per second. Binaries with debug assertions are much slower.
const RATE: u32 = if cfg!(debug_assertions) { 300 } else { 5_000 };

/// A partition that goes from one worker to another in order waits for no session, which is 4 s here and 3.5 s after the last
/// heartbeat at the least. A bound, no figure.
const HANDOVER: Duration = Duration::from_millis(3_500);

/// The gateway has given up on workers: with none of them, those who ask are told so.
const NO_WORKER: u16 = 503;

/// A request was not sent, or not answered in time.
const FAILED: u16 = 500;

async fn scene_on(brokers: &str) -> Scene {
    let scene = Scene::at(brokers);
    create(scene.brokers(), scene.ping_name(), PARTITIONS).await;
    scene
}

async fn gateway(scene: &Scene) -> Process {
    scene.gateway().set("REQUEST_PARTITIONS", "all").ready().await
}

async fn partitions(worker: &Process) -> i64 {
    worker.metric("worker_partitions").await
}

/// Waits until each has so many partitions, and knows where to begin in them: a group that begins for the first time does
/// so with what comes after that.
async fn until_shared(workers: &[&Process], expected: &[i64]) {
    until_eq("partitions of the members", SOON, expected.to_owned(), async || {
        join_all(workers.iter().map(|it| partitions(it))).await
    })
    .await;
    join_all(workers.iter().map(|it| it.until_ready())).await;
}

/// Waits until so many more requests are answered.
async fn until_more(gateway: &Process, count: u32) {
    let series = "gateway_requests_total{outcome=\"answered\",status=\"200\"}";
    let enough = gateway.metric(series).await + i64::from(count);
    until("more answers", SOON, async || {
        (gateway.metric(series).await >= enough).then_some(())
    })
    .await;
}

pub(crate) async fn hand_partitions_over(engine: &Engine) {
    let scene = scene_on(engine.brokers().await).await;
    let gateway = gateway(&scene).await;
    let (mut one, two) = tokio::join!(scene.member().ready(), scene.member().ready());
    until_shared(&[&one, &two], &[6, 6]).await;

    let load = Running::start(gateway.http(), RATE);
    until_more(&gateway, RATE).await;
    let three = scene.member().ready().await;
    until_shared(&[&one, &two, &three], &[4, 4, 4]).await;
    until_more(&gateway, RATE).await;
    one.signal(Signal::TERM);
    assert_eq!(one.exit(SOON).await, 0);
    until_shared(&[&two, &three], &[6, 6]).await;
    until_more(&gateway, RATE).await;
    let report = load.finish().await;

    assert_answered(&report, &[]);
    let longest = report.latency_at(1.0);
    assert!(
        longest < HANDOVER,
        "a request waited {longest:?} while partitions changed hands"
    );
    // Each was done by one.
    assert_eq!(gateway.metric("gateway_replies_total{kind=\"duplicate\"}").await, 0);
}

pub(crate) async fn take_over_from_the_killed(engine: &Engine) {
    let scene = scene_on(engine.brokers().await).await;
    let gateway = gateway(&scene).await;
    let (one, two) = tokio::join!(scene.member().ready(), scene.member().ready());
    until_shared(&[&one, &two], &[6, 6]).await;

    let load = Running::start(gateway.http(), RATE);
    until_more(&gateway, RATE).await;
    one.signal(Signal::KILL);
    until_shared(&[&two], &[12]).await;
    until_more(&gateway, RATE).await;
    let report = load.finish().await;

    assert_answered(&report, &[]);
}

/// Its session is over when it wakes up, and others have its partitions.
pub(crate) async fn go_on_without_the_stopped(engine: &Engine) {
    let scene = scene_on(engine.brokers().await).await;
    let gateway = gateway(&scene).await;
    let (one, two) = tokio::join!(scene.member().ready(), scene.member().ready());
    until_shared(&[&one, &two], &[6, 6]).await;

    let load = Running::start(gateway.http(), RATE);
    until_more(&gateway, RATE).await;
    one.signal(Signal::STOP);
    until_shared(&[&two], &[12]).await;
    until_more(&gateway, RATE).await;
    one.signal(Signal::CONT);
    one.logged("all partitions are lost").await;
    until_shared(&[&one, &two], &[6, 6]).await;
    until_more(&gateway, RATE).await;
    let report = load.finish().await;

    assert_answered(&report, &[]);
    tokio::join!(one.until_ready(), two.until_ready());
}

pub(crate) async fn begin_again_after_all_were_killed(engine: &Engine) {
    let scene = scene_on(engine.brokers().await).await;
    let gateway = gateway(&scene).await;
    let (one, two) = tokio::join!(scene.member().ready(), scene.member().ready());
    until_shared(&[&one, &two], &[6, 6]).await;

    let load = Running::start(gateway.http(), RATE);
    until_more(&gateway, RATE).await;
    for worker in [&one, &two] {
        worker.signal(Signal::KILL);
    }
    let three = scene.member().ready().await;
    until_shared(&[&three], &[12]).await;
    until_more(&gateway, RATE).await;
    let report = load.finish().await;

    assert_none_left_out(&scene).await;
    // Whoever waited when they died is answered in time: a session is shorter than a caller's patience. But it lasts longer
    // than the gateway's belief in the dead.
    assert_answered(&report, &[NO_WORKER]);
    until_eq("requests are answered again", SOON, 200, async || {
        gateway.get("/ping").await.status
    })
    .await;
}

pub(crate) async fn grow_and_shrink_under_load(engine: &Engine) {
    let scene = scene_on(engine.brokers().await).await;
    Box::pin(grow_and_shrink(&scene)).await;
}

pub(crate) async fn grow_and_shrink_under_load_on_three_nodes(engine: &Engine) {
    let cluster = engine.own_steady(3).await;
    let scene = scene_on(cluster.brokers()).await;
    Box::pin(grow_and_shrink(&scene)).await;
}

/// One worker, four, and two of them left: one leaves in order, one is killed.
async fn grow_and_shrink(scene: &Scene) {
    let gateway = gateway(scene).await;
    let mut one = scene.member().ready().await;
    until_shared(&[&one], &[12]).await;

    let load = Running::start(gateway.http(), RATE);
    until_more(&gateway, RATE).await;
    let (two, three, four) = tokio::join!(scene.member().ready(), scene.member().ready(), scene.member().ready());
    until_shared(&[&one, &two, &three, &four], &[3, 3, 3, 3]).await;
    until_more(&gateway, RATE).await;
    two.signal(Signal::KILL);
    one.signal(Signal::TERM);
    assert_eq!(one.exit(SOON).await, 0);
    until_shared(&[&three, &four], &[6, 6]).await;
    until_more(&gateway, RATE).await;
    let report = load.finish().await;

    assert_none_left_out(scene).await;
    assert_answered(&report, &[]);
}

/// Each request in the log has a reply, in time or not.
async fn assert_none_left_out(scene: &Scene) {
    let pong = scene.pong().await;
    let replied: HashSet<String> = reply_ids(&pong).await.into_iter().collect();
    for partition in 0..PARTITIONS {
        let ping = Topic::partition(scene.brokers(), scene.ping_name(), partition).await;
        let requests = ping.read_all().await.into_iter();
        let left_out: Vec<_> = requests
            .filter(|it| !replied.contains(&*String::from_utf8_lossy(it.record.key.as_ref().unwrap())))
            .map(|it| (it.offset, it.record.timestamp))
            .collect();
        assert!(left_out.is_empty(), "left out in partition {partition}: {left_out:?}");
    }
}

pub(crate) async fn follow_their_coordinator(engine: &Engine) {
    let cluster = engine.own(3).await;
    let scene = scene_on(cluster.brokers()).await;
    let gateway = gateway(&scene).await;
    let (one, two) = tokio::join!(scene.member().ready(), scene.member().ready());
    until_shared(&[&one, &two], &[6, 6]).await;

    let (coordinator, _) = node(cluster.brokers(), scene.group_name()).await;
    let load = Running::start(gateway.http(), RATE);
    until_more(&gateway, RATE).await;
    move_coordinator(&cluster, &scene, coordinator).await;
    until_more(&gateway, RATE).await;
    // Kafka's node was a leader as well, for requests or for replies; the built-in one still is.
    let refusals: &[u16] = match cluster.faults() {
        Some(_) => &[],
        None => &[FAILED, NO_WORKER],
    };
    assert_answered(&load.finish().await, refusals);

    // As a whole: the group takes somebody in and shares anew.
    let three = scene.member().ready().await;
    until_shared(&[&one, &two, &three], &[4, 4, 4]).await;
    until("requests are answered in a row", SOON, async || {
        for _ in 0..100 {
            if gateway.get("/ping").await.status != 200 {
                return None;
            }
        }
        Some(())
    })
    .await;
    tokio::join!(one.until_ready(), two.until_ready(), three.until_ready());
    assert_none_left_out(&scene).await;
}

/// It is elsewhere afterwards. The built-in broker only says so; of Kafka's the node dies.
async fn move_coordinator(cluster: &Cluster, scene: &Scene, from: u32) {
    match cluster.faults() {
        Some(faults) => {
            let next = i32::try_from(from % 3 + 1).unwrap();
            faults.move_coordinator(scene.group_name(), next).unwrap();
        }
        None => cluster.kill(from).await,
    }
}

pub(crate) async fn take_back_the_expelled(engine: &Engine) -> Completion {
    if engine.has_separate_nodes() {
        return Completion::ignored_with("only the built-in broker expels a member on demand");
    }
    let cluster = engine.own(1).await;
    let faults = cluster.faults().expect("it is the built-in broker");
    let scene = scene_on(cluster.brokers()).await;
    let gateway = gateway(&scene).await;
    let (one, two) = tokio::join!(scene.member().ready(), scene.member().ready());
    until_shared(&[&one, &two], &[6, 6]).await;

    let load = Running::start(gateway.http(), RATE);
    until_more(&gateway, RATE).await;
    for member in faults.members(scene.group_name()) {
        faults.fence_member(scene.group_name(), &member).unwrap();
    }
    for worker in [&one, &two] {
        worker.logged("all partitions are lost").await;
    }
    until_shared(&[&one, &two], &[6, 6]).await;
    until_more(&gateway, RATE).await;
    let report = load.finish().await;

    assert_answered(&report, &[]);
    Completion::Completed
}

pub(crate) async fn need_a_broker_that_has_them(engine: &Engine) -> Completion {
    use broker::{ApiKey, Faults, ResponseError};

    if engine.has_separate_nodes() {
        return Completion::ignored_with("Kafka has groups");
    }
    let cluster = engine.own(1).await;
    let faults = cluster.faults().expect("it is the built-in broker");
    for error in [
        ResponseError::UnsupportedVersion,
        ResponseError::GroupAuthorizationFailed,
    ] {
        faults.refuse(ApiKey::ConsumerGroupHeartbeat, error, Faults::ALWAYS);
        let scene = scene_on(cluster.brokers()).await;
        let worker = scene.member().start().await;
        until("it tries again and again", SOON, async || {
            (faults.seen(ApiKey::ConsumerGroupHeartbeat) >= 3).then_some(())
        })
        .await;
        let line = worker.logged_once("PARTITIONS").await;
        assert!(
            line.contains("WARN") && line.contains("health_check=\"group\""),
            "{line}"
        );
        let (status, causes) = worker.page("/ready").await;
        assert!(status == 503 && causes.contains("PARTITIONS"), "{causes}");

        faults.heal();
        worker.until_ready().await;
    }
    Completion::Completed
}
