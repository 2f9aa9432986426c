//! Limits of the broker: the size of batches, and the bytes that a client may write per second.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bench::{Load, Mode};
use e2e::{
    cluster::NodeSettings,
    fixture::Fixture,
    http::Response,
    process::Process,
    wait::{WAIT_LIMIT, until},
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::{
    fault::{Common, Fault, Pair, REPLY_TIMEOUT, until_closed},
    invariants::{Watch, twice},
    traffic::{Traffic, open_loop},
    verdict::{Verdict, ms},
};

const SECOND: Duration = Duration::from_secs(1);

/// Callers in a closed loop.
const CALLERS: usize = 1_024;

/// Requests whose records do not fit into a batch alone.
const TOO_LARGE: usize = 20;

pub(crate) async fn small_batches(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    for max_bytes in [20_000, 10_000] {
        let settings = NodeSettings {
            max_batch_bytes: Some(max_bytes),
            ..NodeSettings::default()
        };
        let cluster = fault.engine.own(1, settings).await;
        let fixture = Fixture::on(&cluster);
        let gateway = fixture
            .gateway()
            .common()
            .set("REPLY_TIMEOUT", "10s")
            .set("MAX_IN_FLIGHT", "2048");
        let (gateway, worker) = tokio::join!(gateway.ready(), fixture.worker().set("DRAIN_TIMEOUT", "5s").ready());
        let pair = Pair { gateway, worker };
        // The producers open all their connections before the descriptors are counted.
        let before = pair.gateway.footprint().descriptors;
        let mut answered = serve_callers(&pair.gateway, max_bytes, &mut verdict).await;
        until_closed(&pair.gateway, before).await;
        twice(&pair.processes(), &mut verdict, async |verdict| {
            answered += serve_callers(&pair.gateway, max_bytes, verdict).await;
        })
        .await;
        let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());
        let (requests, replies) = (ping.read_all().await, pong.read_all().await);
        // The built-in broker deletes the oldest records of a long log. The request topic has no heartbeats between them.
        let deleted = requests.first().map_or(0, |read| usize::try_from(read.offset).unwrap());
        for (what, deleted, records) in [("requests", deleted, requests), ("replies", 0, replies)] {
            let keys: BTreeSet<_> = records.iter().map(|read| read.record.key.as_deref().unwrap()).collect();
            let written = deleted + records.len();
            verdict.judge(
                keys.len() == records.len() && written == answered,
                format!(
                    "{max_bytes} bytes: {written} {what} for {answered} responses, {} written twice",
                    records.len() - keys.len()
                ),
            );
        }
    }
    verdict
}

/// Returns how many requests were answered.
async fn serve_callers(gateway: &Process, max_bytes: u32, verdict: &mut Verdict) -> usize {
    let load = Load {
        mode: Mode::Closed { connections: CALLERS },
        // Above the REPLY_TIMEOUT.
        timeout: 15 * SECOND,
        ..open_loop(gateway.http(), 1.0)
    };
    let traffic = Traffic::of(load);
    let body = json!({ "name": "too large", "value": "x".repeat(2 * max_bytes as usize) }).to_string();
    traffic.run_for(2 * SECOND).await;
    let (mut refused, mut longest) = (0, Duration::ZERO);
    for _ in 0..TOO_LARGE {
        let from = Instant::now();
        let response = gateway.post("/ping", &body).await;
        longest = longest.max(from.elapsed());
        refused += usize::from(is_send_failed(&response));
    }
    verdict.judge(
        refused == TOO_LARGE,
        format!(
            "{max_bytes} bytes: {refused} of {TOO_LARGE} too large refused in ≤ {}",
            ms(longest)
        ),
    );
    traffic.run_for(3 * SECOND).await;
    let record = traffic.finish().await;
    record.judge_answers(verdict);
    record.all().judge_share(verdict, &format!("{max_bytes} bytes"), 1.0);
    record.all().ok()
}

fn is_send_failed(response: &Response) -> bool {
    response.status == 500 && response.text().contains("failed to send")
}

/// Requests per second, three times what [`BYTES_PER_SECOND`] allows.
const QUOTA_RATE: u32 = 100;

/// Of the quota. A record has some 300 bytes.
const BYTES_PER_SECOND: u32 = 10_000;

/// The bound beyond which callers get 503: less than the requests of a reply timeout.
const QUOTA_IN_FLIGHT: usize = 100;

/// The time of the load under the quota. The broker measures over 11 s.
const QUOTA_TIME: Duration = Duration::from_secs(20);

pub(crate) async fn producer_quota(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let cluster = fault.engine.reserve(1, NodeSettings::default()).await;
    for client_id in ["gateway", "worker"] {
        let fixture = Fixture::on(&cluster);
        let gateway = fixture
            .gateway()
            .common()
            .set("MAX_IN_FLIGHT", QUOTA_IN_FLIGHT.to_string());
        let (gateway, worker) = tokio::join!(gateway.ready(), fixture.worker().set("DRAIN_TIMEOUT", "5s").ready());
        let pair = Pair { gateway, worker };
        let watch = Watch::of(&pair.processes());
        let quota = |value: &str| format!("quota client-id {client_id} producer_byte_rate={value}");
        cluster.administer(&quota(&BYTES_PER_SECOND.to_string())).await;
        let outcomes = send_named(&pair.gateway, &mut verdict).await;
        cluster.administer(&quota("")).await;
        // What the broker still holds back, and what expires meanwhile.
        let throttled = Instant::now();
        pair.until_ready().await;
        until_served(&pair.gateway).await;
        verdict.note(format!(
            "{client_id} served {} after the quota",
            ms(throttled.elapsed())
        ));
        judge_executions(&fixture, client_id, &outcomes, &mut verdict).await;
        watch.judge(&mut verdict).await;
    }
    verdict
}

/// What became of the requests, by their names.
type Outcomes = BTreeMap<String, Outcome>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Answered,
    /// 503: certainly not executed.
    Refused,
    /// 500 `failed to send`: certainly not executed.
    NotSent,
    /// 500 `timeout`: unknown.
    TimedOut,
    Other(u16),
}

/// Sends requests with unique names at [`QUOTA_RATE`], each on a connection of its own.
async fn send_named(gateway: &Process, verdict: &mut Verdict) -> Outcomes {
    let count = QUOTA_RATE * u32::try_from(QUOTA_TIME.as_secs()).unwrap();
    let start = Instant::now();
    let requests = (0..count).map(|number| async move {
        sleep_until(start + SECOND * number / QUOTA_RATE).await;
        let name = Uuid::new_v4().to_string();
        let body = json!({ "name": name, "value": "v" }).to_string();
        let sent = Instant::now();
        let response = gateway.post("/ping", body).await;
        let outcome = outcome(&response, &name);
        (name, outcome, sent.elapsed())
    });
    let ended = join_all(requests).await;
    let longest = ended.iter().map(|(_, _, took)| *took).max().unwrap_or_default();
    verdict.judge(
        longest <= REPLY_TIMEOUT + SECOND / 2,
        format!("longest response {}", ms(longest)),
    );
    ended.into_iter().map(|(name, outcome, _)| (name, outcome)).collect()
}

fn outcome(response: &Response, name: &str) -> Outcome {
    match response.status {
        200 if response.message().starts_with(name) => Outcome::Answered,
        503 => Outcome::Refused,
        500 if is_send_failed(response) => Outcome::NotSent,
        500 => Outcome::TimedOut,
        other => Outcome::Other(other),
    }
}

/// Waits until requests are answered again.
async fn until_served(gateway: &Process) {
    until("ten requests in a row are answered", WAIT_LIMIT, async || {
        for _ in 0..10 {
            if gateway.get("/ping").await.status != 200 {
                return None;
            }
        }
        Some(())
    })
    .await;
}

/// Compares the responses with the request topic, which has one record for each execution.
async fn judge_executions(fixture: &Fixture, client_id: &str, outcomes: &Outcomes, verdict: &mut Verdict) {
    let mut executions = BTreeMap::<String, usize>::new();
    for read in fixture.ping().await.read_all().await {
        let value: Value = serde_json::from_slice(&read.record.value.unwrap()).unwrap();
        *executions
            .entry(value["name"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    let executed = |name: &String| executions.get(name).copied().unwrap_or(0);
    let count = |wanted: Outcome| outcomes.values().filter(|outcome| **outcome == wanted).count();
    let violations = |wanted: &[Outcome], is_wrong: &dyn Fn(usize) -> bool| {
        let of_kind = outcomes.iter().filter(|(_, outcome)| wanted.contains(outcome));
        of_kind.filter(|(name, _)| is_wrong(executed(name))).count()
    };
    let twice = outcomes.keys().filter(|name| executed(name) > 1).count();
    let missing = violations(&[Outcome::Answered], &|times| times == 0);
    let refused = violations(&[Outcome::Refused, Outcome::NotSent], &|times| times > 0);
    let other = outcomes
        .values()
        .filter(|outcome| matches!(outcome, Outcome::Other(_)))
        .count();
    verdict.judge(
        twice == 0 && missing == 0 && refused == 0 && other == 0,
        format!("quota of the {client_id}: {twice} executed twice, {refused} refused and executed all the same"),
    );
    verdict.judge(
        count(Outcome::Answered) > 0 && count(Outcome::Refused) > 0,
        format!(
            "{} × 200, {} × 503, {} not sent, {} timed out",
            count(Outcome::Answered),
            count(Outcome::Refused),
            count(Outcome::NotSent),
            count(Outcome::TimedOut)
        ),
    );
}
