//! Partitions that come and go: topics made anew with another number of them, and the first start of a group.

use std::{collections::BTreeSet, time::Duration};

use bench::Load;
use e2e::{
    fixture::Fixture,
    process::Process,
    topic::{self, Topic},
    wait::{WAIT_LIMIT, until},
};
use futures_util::future::join_all;
use serde_json::json;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::{
    fault::{Common, Fault, Pair, seen_within},
    invariants::judge_log,
    traffic::{Traffic, open_loop},
    verdict::{Verdict, ms},
};

const SECOND: Duration = Duration::from_secs(1);

/// The bound on the time from the creation of the topics until both processes serve again.
const SERVING_LIMIT: Duration = Duration::from_secs(30);

/// Requests in a row that have to be answered.
const IN_A_ROW: usize = 20;

/// The request topic has so many partitions at first.
const AT_FIRST: i32 = 3;

pub(crate) async fn another_number(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    for in_group in [false, true] {
        for count in [6, 2] {
            let fixture = Fixture::shared(fault.engine).await;
            make_anew(&fixture, in_group, count, &mut verdict).await;
        }
    }
    verdict
}

async fn make_anew(fixture: &Fixture, in_group: bool, count: i32, verdict: &mut Verdict) {
    topic::create(fixture.brokers(), fixture.ping_name(), AT_FIRST).await;
    let worker = if in_group {
        fixture.member()
    } else {
        fixture.worker().set("PARTITIONS", "all")
    };
    let gateway = fixture.gateway().common().set("REQUEST_PARTITIONS", "all");
    let (gateway, worker) = tokio::join!(gateway.ready(), worker.set("DRAIN_TIMEOUT", "5s").ready());
    let pair = Pair { gateway, worker };
    pair.worker.until_metric("worker_partitions", i64::from(AT_FIRST)).await;

    for name in [fixture.ping_name(), fixture.pong_name()] {
        topic::delete(fixture.brokers(), name).await;
    }
    tokio::join!(pair.gateway.until_unready(), pair.worker.until_unready());
    topic::create(fixture.brokers(), fixture.pong_name(), 1).await;
    topic::create(fixture.brokers(), fixture.ping_name(), count).await;
    let created = Instant::now();
    let serving = async {
        pair.until_ready().await;
        pair.worker.until_metric("worker_partitions", i64::from(count)).await;
        let pings =
            join_all((0..count).map(|index| Topic::partition(fixture.brokers(), fixture.ping_name(), index))).await;
        // Each new partition has requests, so the gateway knows them all.
        until("requests in each partition are answered", WAIT_LIMIT, async || {
            for _ in 0..IN_A_ROW {
                if pair.gateway.get("/ping").await.status != 200 {
                    return None;
                }
            }
            let ends = join_all(pings.iter().map(Topic::end)).await;
            ends.iter().all(|end| *end > 0).then_some(())
        })
        .await;
    };
    let is_serving = timeout(SERVING_LIMIT, serving).await.is_ok();
    let kind = if in_group { "in a group" } else { "PARTITIONS=all" };
    verdict.judge(
        is_serving,
        format!(
            "{AT_FIRST} to {count} partitions, {kind}: serving after {}",
            ms(created.elapsed())
        ),
    );
    if !is_serving {
        let (gateway, worker) = tokio::join!(pair.gateway.page("/ready"), pair.worker.page("/ready"));
        verdict.note(format!("gateway {gateway:?}, worker {worker:?}"));
    }
    // The number of connections follows that of the partitions.
    for process in pair.processes() {
        judge_log(process, verdict);
        verdict.invariant(process.is_running(), format!("I4: {} has ended", process.name()));
    }
}

/// Partitions of the request topic for a group.
const OF_GROUP: i32 = 12;

/// First starts of a group.
const STARTS: usize = 5;

/// Requests per second while members join.
const RATE: f64 = 50.0;

/// The `REPLY_TIMEOUT` of the gateway: longer than any delay of a request that was not skipped.
const LONG_REPLY_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) async fn first_start_of_a_group(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    for members in [1, 2] {
        let mut ready_after = Duration::ZERO;
        let mut skipped = 0;
        for _ in 0..STARTS {
            let fixture = Fixture::shared(fault.engine).await;
            topic::create(fixture.brokers(), fixture.ping_name(), OF_GROUP).await;
            let (took, lost) = join_under_load(&fixture, members, &mut verdict).await;
            ready_after = ready_after.max(took);
            skipped += lost;
        }
        verdict.judge(
            skipped == 0,
            format!(
                "{members} members, {STARTS} times: {skipped} skipped after ready; ready ≤ {}",
                ms(ready_after)
            ),
        );
    }
    verdict
}

/// Returns the time until the members are ready, and how many requests that were sent after it have no reply. Those before may
/// be skipped, because a new group starts at the end of the log.
async fn join_under_load(fixture: &Fixture, members: usize, verdict: &mut Verdict) -> (Duration, usize) {
    let gateway = fixture
        .gateway()
        .common()
        .set("REPLY_TIMEOUT", format!("{}s", LONG_REPLY_TIMEOUT.as_secs()))
        .set("REQUEST_PARTITIONS", "all");
    let gateway = gateway.ready().await;
    let pong = fixture.pong().await;
    let pings =
        join_all((0..OF_GROUP).map(|index| Topic::partition(fixture.brokers(), fixture.ping_name(), index))).await;
    let traffic = Traffic::of(Load {
        timeout: LONG_REPLY_TIMEOUT + 5 * SECOND,
        ..open_loop(gateway.http(), RATE)
    });
    traffic.run_for(SECOND).await;
    let started = Instant::now();
    // Without heartbeats the gateway refuses nothing: every request is written.
    let member = || fixture.member().set("ANNOUNCE_INTERVAL", "0s").start();
    let workers = join_all((0..members).map(|_| member())).await;
    join_all(workers.iter().map(until_ready_closely)).await;
    let ready = Instant::now();
    // At once, one into each partition: their starts may be fixed one after the other.
    let ids = join_all(pings.iter().map(write_request)).await;
    traffic.run_for(SECOND).await;
    let record = traffic.finish().await;
    record.judge_answers(verdict);
    let after = record.due_from(ready);
    let replied = until_replied(&pong, &ids).await;
    for process in workers.iter().chain([&gateway]) {
        judge_log(process, verdict);
    }
    (ready - started, after.total() - after.ok() + ids.len() - replied)
}

/// Asks without a pause: the requests of the first milliseconds count.
async fn until_ready_closely(worker: &Process) {
    let ready = async { while worker.page("/ready").await.0 != 200 {} };
    timeout(WAIT_LIMIT, ready).await.expect("the worker gets ready");
}

/// Writes a request and returns its id.
async fn write_request(ping: &Topic) -> String {
    let id = Uuid::new_v4().to_string();
    let value = json!({ "id": id, "name": "n", "value": "v" }).to_string();
    ping.write(Some(id.as_bytes()), Some(value.as_bytes())).await;
    id
}

/// How many of the requests have a reply, once all have or the time is over.
async fn until_replied(pong: &Topic, ids: &[String]) -> usize {
    let count = async || {
        let replies = pong.read_all().await;
        let keys: BTreeSet<_> = replies.into_iter().filter_map(|read| read.record.key).collect();
        ids.iter().filter(|id| keys.contains(id.as_bytes())).count()
    };
    seen_within(LONG_REPLY_TIMEOUT, count, |replied| *replied == ids.len()).await
}
