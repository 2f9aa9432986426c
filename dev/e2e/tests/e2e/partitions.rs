//! Partitions that settings name: who reads which, and how requests are spread over them.

use std::time::Duration;

use e2e::{
    engine::Engine,
    process::Process,
    scene::Scene,
    topic::{Topic, create},
    wait::until,
};
use futures_util::future::join_all;

use crate::{
    coordinator::grow,
    load::{assert_answered, closed_loop, reply_ids, write_request},
};

/// Within this time a new partition is noticed.
const NOTICED: Duration = Duration::from_secs(30);

async fn ping_partitions(scene: &Scene, count: i32) -> Vec<Topic> {
    create(scene.brokers(), scene.ping_name(), count).await;
    join_all((0..count).map(|it| Topic::partition(scene.brokers(), scene.ping_name(), it))).await
}

async fn ends(pings: &[Topic]) -> Vec<i64> {
    join_all(pings.iter().map(Topic::end)).await
}

pub(crate) async fn that_are_listed_are_read(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let pings = ping_partitions(&scene, 4).await;
    let pong = scene.pong().await;
    let worker = scene.worker().set("PARTITIONS", "3,1").ready().await;
    for (index, ping) in pings.iter().enumerate() {
        write_request(ping, &format!("early {index}")).await;
    }
    let _rest = scene.worker().set("PARTITIONS", "0,2").ready().await;
    for (index, ping) in pings.iter().enumerate() {
        write_request(ping, &format!("late {index}")).await;
    }

    pong.read(0, 6).await;
    let mut ids = reply_ids(&pong).await;
    ids.sort();
    assert_eq!(ids, ["early 1", "early 3", "late 0", "late 1", "late 2", "late 3"]);
    assert_eq!(worker.metric("worker_partitions").await, 2);
    worker
        .until_metric("worker_kafka_tail_lag_records{partition=\"3\"}", 0)
        .await;
}

/// Nobody can have read any of it: it is read from its beginning.
pub(crate) async fn that_are_added_later_are_read_from_their_beginning(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let _pings = ping_partitions(&scene, 2).await;
    let pong = scene.pong().await;
    let worker = scene.worker().set("PARTITIONS", "all").ready().await;
    assert_eq!(worker.metric("worker_partitions").await, 2);

    grow(scene.brokers(), scene.ping_name(), 3).await;
    let added = Topic::partition(scene.brokers(), scene.ping_name(), 2).await;
    write_request(&added, "the first of all").await;

    until("the new partition is read", NOTICED, async || {
        (reply_ids(&pong).await == ["the first of all"]).then_some(())
    })
    .await;
}

async fn frames_of(gateway: &Process) -> i64 {
    gateway.metric("gateway_kafka_outbox_frames_total").await
}

pub(crate) async fn get_the_same_share_of_the_requests(engine: &Engine) {
    // How large a frame becomes depends on who comes in the meantime, and so on what else the machine does.
    for attempt in 1.. {
        match spread(engine).await {
            Ok(()) => break,
            Err(why) => assert!(attempt < 3, "{why}"),
        }
    }
}

/// The same load on one partition and on four, and what is wrong with how it was spread.
async fn spread(engine: &Engine) -> Result<(), String> {
    let requests = 2_000;
    let mut frames = Vec::new();
    for count in [1, 4] {
        let scene = Scene::shared(engine).await;
        let pings = ping_partitions(&scene, count).await;
        let (gateway, _worker) = tokio::join!(
            scene.gateway().set("REQUEST_PARTITIONS", "all").ready(),
            scene.worker().set("PARTITIONS", "all").ready()
        );
        let report = closed_loop(&gateway, 64, requests).run().await.unwrap();
        assert_answered(&report, &[]);
        assert_eq!(report.outcomes.ok, requests);

        let shares = ends(&pings).await;
        assert_eq!(shares.iter().sum::<i64>(), 2_000, "{shares:?}");
        if count == 4 && !shares.iter().all(|it| (300..=700).contains(it)) {
            return Err(format!("{shares:?}"));
        }
        frames.push(frames_of(&gateway).await);
    }
    // Spread over more partitions, the same requests go in about as many frames.
    let [one, four] = frames[..] else {
        unreachable!("two runs")
    };
    if four <= 2 * one {
        Ok(())
    } else {
        Err(format!(
            "{requests} requests in {four} frames, {one} with one partition"
        ))
    }
}

pub(crate) async fn without_a_worker_hurt_only_their_own_requests(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let pings = ping_partitions(&scene, 2).await;
    let gateway = scene.gateway().set("REQUEST_PARTITIONS", "all");
    let (gateway, _worker) = tokio::join!(gateway.ready(), scene.worker().ready());

    // All that ask at once may go in one frame; and while one partition is connected the gateway is ready.
    let mut answers = Vec::new();
    let mut ends_so_far = ends(&pings).await;
    while answers.len() < 1_000 && ends_so_far.contains(&0) {
        answers.extend(join_all((0..50).map(|_| gateway.get("/ping"))).await);
        ends_so_far = ends(&pings).await;
    }

    let answered = answers.iter().filter(|it| it.status == 200).count();
    let timed_out = answers.iter().filter(|it| it.status == 500).count();
    assert_eq!(
        [answered, timed_out].map(|it| i64::try_from(it).unwrap())[..],
        ends_so_far,
        "{answers:?}"
    );
    assert!(!ends_so_far.contains(&0), "{ends_so_far:?}");
}
