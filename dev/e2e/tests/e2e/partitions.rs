//! Partitions by settings: which the worker reads, and how the gateway spreads requests.

use std::time::Duration;

use e2e::{
    engine::Engine,
    fixture::Fixture,
    process::Process,
    topic::{Topic, create},
    wait::until,
};
use futures_util::future::join_all;

use crate::{
    coordinator::add_partitions,
    load::{assert_answered, closed_loop, reply_ids, write_request},
};

/// The bound on the discovery of a new partition.
const DISCOVERY_LIMIT: Duration = Duration::from_secs(30);

async fn ping_partitions(fixture: &Fixture, count: i32) -> Vec<Topic> {
    create(fixture.brokers(), fixture.ping_name(), count).await;
    join_all((0..count).map(|index| Topic::partition(fixture.brokers(), fixture.ping_name(), index))).await
}

async fn ends(pings: &[Topic]) -> Vec<i64> {
    join_all(pings.iter().map(Topic::end)).await
}

pub(crate) async fn listed_partitions_are_read(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let pings = ping_partitions(&fixture, 4).await;
    let pong = fixture.pong().await;
    let worker = fixture.worker().set("PARTITIONS", "3,1").ready().await;
    for (index, ping) in pings.iter().enumerate() {
        write_request(ping, &format!("early {index}")).await;
    }
    let _rest = fixture.worker().set("PARTITIONS", "0,2").ready().await;
    for (index, ping) in pings.iter().enumerate() {
        write_request(ping, &format!("late {index}")).await;
    }

    pong.read(0, 6).await;
    let mut ids = reply_ids(&pong).await;
    ids.sort();
    assert_eq!(ids, ["early 1", "early 3", "late 0", "late 1", "late 2", "late 3"]);
    assert_eq!(worker.metric("worker_partitions").await, 2);
    let topic = fixture.ping_name();
    let lag = format!("worker_kafka_tail_lag_records{{topic=\"{topic}\",partition=\"3\"}}");
    worker.until_metric(&lag, 0).await;
}

pub(crate) async fn added_partition_is_read_from_its_beginning(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let _pings = ping_partitions(&fixture, 2).await;
    let pong = fixture.pong().await;
    let worker = fixture.worker().set("PARTITIONS", "all").ready().await;
    assert_eq!(worker.metric("worker_partitions").await, 2);

    add_partitions(fixture.brokers(), fixture.ping_name(), 3).await;
    let added = Topic::partition(fixture.brokers(), fixture.ping_name(), 2).await;
    write_request(&added, "first").await;

    until("the new partition is read", DISCOVERY_LIMIT, async || {
        (reply_ids(&pong).await == ["first"]).then_some(())
    })
    .await;
}

/// The size of the batches depends on the load of the machine, so a first result may be wrong by chance.
pub(crate) async fn requests_are_spread_evenly_over_partitions(engine: &Engine) {
    for attempt in 1.. {
        match spread(engine).await {
            Ok(()) => break,
            Err(why) => assert!(attempt < 3, "{why}"),
        }
    }
}

/// Runs the same load on one partition and on four, and returns what is wrong with the distribution.
async fn spread(engine: &Engine) -> Result<(), String> {
    let requests = 2_000;
    let mut batches = Vec::new();
    for count in [1, 4] {
        let fixture = Fixture::shared(engine).await;
        let pings = ping_partitions(&fixture, count).await;
        let (gateway, _worker) = tokio::join!(
            fixture.gateway().set("REQUEST_PARTITIONS", "all").ready(),
            fixture.worker().set("PARTITIONS", "all").ready()
        );
        let report = closed_loop(&gateway, 64, requests).run().await.unwrap();
        assert_answered(&report, &[]);
        assert_eq!(report.outcomes.ok, requests);

        let shares = ends(&pings).await;
        assert_eq!(shares.iter().sum::<i64>(), 2_000, "{shares:?}");
        if count == 4 && !shares.iter().all(|share| (300..=700).contains(share)) {
            return Err(format!("{shares:?}"));
        }
        batches.push(batches_of(&gateway).await);
    }
    // More partitions must not mean smaller batches.
    if batches[1] <= 2 * batches[0] {
        Ok(())
    } else {
        Err(format!(
            "{requests} requests in {batches:?} batches, on 1 and on 4 partitions"
        ))
    }
}

async fn batches_of(gateway: &Process) -> i64 {
    gateway.metric("gateway_kafka_outbox_frames_total").await
}

pub(crate) async fn partition_without_a_worker_fails_only_its_own_requests(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let pings = ping_partitions(&fixture, 2).await;
    let gateway = fixture.gateway().set("REQUEST_PARTITIONS", "all");
    let gateway = gateway.set("REPLY_TIMEOUT", "3s");
    let (gateway, _worker) = tokio::join!(gateway.ready(), fixture.worker().ready());

    // One batch may take all concurrent requests, so the requests go on until both partitions have some.
    let mut statuses = Vec::new();
    let mut counts = ends(&pings).await;
    while statuses.len() < 1_000 && counts.contains(&0) {
        let responses = join_all((0..50).map(|_| gateway.get("/ping"))).await;
        statuses.extend(responses.into_iter().map(|response| response.status));
        counts = ends(&pings).await;
    }

    let count = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count();
    let results = [count(200), count(500)].map(|count| i64::try_from(count).unwrap());
    assert_eq!(results[..], counts, "{statuses:?}");
    assert!(!counts.contains(&0), "{counts:?}");
}
