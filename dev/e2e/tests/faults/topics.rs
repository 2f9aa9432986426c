//! Faults of topics: deleted and recreated, records deleted, logs truncated.

use std::time::Duration;

use broker::Faults;
use e2e::{
    cluster::NodeSettings,
    fixture::Fixture,
    process::Process,
    topic::{self, Topic},
    wait::{WAIT_LIMIT, until},
};
use futures_util::future::join_all;
use rustix::process::Signal;
use tokio::time::Instant;

use crate::{
    fault::{Fault, Pair, sum},
    invariants::twice,
    traffic::Traffic,
    verdict::{Verdict, ms},
};

const SECOND: Duration = Duration::from_secs(1);

/// Half of the usual rate. Single error responses take 40 µs each, and the criterion is on the rest of the CPU time.
const MAX_RATE_WITHOUT_TOPICS: f64 = 2_000.0;

pub(crate) async fn recreated(fault: &Fault<'_>) -> Verdict {
    recreated_of(fault, 1, &Fixture::shared(fault.engine).await).await
}

pub(crate) async fn recreated_on_three(fault: &Fault<'_>) -> Verdict {
    let cluster = fault.engine.own(3, NodeSettings::default()).await;
    recreated_of(fault, 3, &Fixture::on(&cluster)).await
}

async fn recreated_of(fault: &Fault<'_>, nodes: u32, fixture: &Fixture) -> Verdict {
    let mut verdict = Verdict::default();
    let pair = Pair::ready(fixture).await;
    let rate = fault.rate(nodes, &pair.gateway).await.min(MAX_RATE_WITHOUT_TOPICS);
    verdict.note(format!("{rate}/s"));
    twice(&pair.processes(), &mut verdict, async |verdict| {
        recreate(&pair, fixture, rate, verdict).await;
    })
    .await;
    verdict
}

async fn recreate(pair: &Pair, fixture: &Fixture, rate: f64, verdict: &mut Verdict) {
    let traffic = Traffic::start(pair.gateway.http(), rate);
    traffic.run_for(2 * SECOND).await;
    for name in [fixture.ping_name(), fixture.pong_name()] {
        topic::delete(fixture.brokers(), name).await;
    }
    tokio::join!(pair.gateway.until_unready(), pair.worker.until_unready());
    let cpu = || [&pair.gateway, &pair.worker].map(|process| process.footprint().cpu);
    let (start, spent) = (Instant::now(), cpu());
    traffic.run_for(5 * SECOND).await;
    for (process, (now, then)) in [&pair.gateway, &pair.worker].iter().zip(cpu().into_iter().zip(spent)) {
        let share = (now - then).as_secs_f64() / start.elapsed().as_secs_f64();
        verdict.judge(
            share < 0.2,
            format!("{}: {:.1} % of a core while absent", process.name(), share * 100.0),
        );
    }
    for name in [fixture.ping_name(), fixture.pong_name()] {
        topic::create(fixture.brokers(), name, 1).await;
    }
    let created = Instant::now();
    traffic.run_for(8 * SECOND).await;
    let record = traffic.finish().await;
    record.judge_answers(verdict);
    let last = record.due_from(created).last_failure_after(created);
    record.due_from(created + 5 * SECOND).judge_share(
        verdict,
        &format!("last failure {} after the creation, from 5 s on", ms(last)),
        0.999,
    );
    verdict.note(format!("all: {}", record.all().summary()));
}

async fn lost(process: &Process) -> i64 {
    process
        .metric(&format!("{}_kafka_tail_records_lost_total", process.name()))
        .await
}

pub(crate) async fn records_deleted(fault: &Fault<'_>) -> Verdict {
    records_deleted_of(fault, 1, &Fixture::shared(fault.engine).await).await
}

pub(crate) async fn records_deleted_on_three(fault: &Fault<'_>) -> Verdict {
    let cluster = fault.engine.own(3, NodeSettings::default()).await;
    records_deleted_of(fault, 3, &Fixture::on(&cluster)).await
}

async fn records_deleted_of(fault: &Fault<'_>, nodes: u32, fixture: &Fixture) -> Verdict {
    let mut verdict = Verdict::default();
    let ping = fixture.ping().await;
    let pair = Pair::ready(fixture).await;
    let rate = fault.rate(nodes, &pair.gateway).await;
    verdict.note(fault.load(nodes));
    twice(&pair.processes(), &mut verdict, async |verdict| {
        delete_unread(&pair, &ping, rate, verdict).await;
    })
    .await;
    verdict
}

async fn delete_unread(pair: &Pair, ping: &Topic, rate: f64, verdict: &mut Verdict) {
    let lost_before = lost(&pair.worker).await;
    let traffic = Traffic::start(pair.gateway.http(), rate);
    traffic.run_for(2 * SECOND).await;
    // The log grows while the worker is stopped.
    pair.worker.signal(Signal::STOP);
    traffic.run_for(2 * SECOND).await;
    let end = ping.end().await;
    ping.delete_before(end).await;
    pair.worker.signal(Signal::CONT);
    let resumed = Instant::now();
    traffic.run_for(8 * SECOND).await;
    let record = traffic.finish().await;
    record.judge_answers(verdict);
    let last = record.due_from(resumed).last_failure_after(resumed);
    record.due_from(resumed + 5 * SECOND).judge_share(
        verdict,
        &format!("last failure {} after SIGCONT, from 5 s on", ms(last)),
        0.999,
    );
    let end = ping.end().await;
    let read = until("the worker has read all", WAIT_LIMIT, async || {
        let sum = pair.worker.metric("worker_requests_total").await + lost(&pair.worker).await;
        (sum >= end).then_some(sum)
    })
    .await;
    let gone = lost(&pair.worker).await - lost_before;
    verdict.judge(
        gone > 0 && read == end,
        format!("{gone} counted as lost; with all that were {read} of {end} requests accounted for"),
    );
}

pub(crate) async fn log_truncated(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let cluster = fault.engine.own(1, NodeSettings::default()).await;
    let faults = cluster.faults().expect("the built-in broker can truncate");
    let fixture = Fixture::on(&cluster);
    let pair = Pair::ready(&fixture).await;
    let rate = fault.rate(1, &pair.gateway).await;
    verdict.note(fault.load(1));
    twice(&pair.processes(), &mut verdict, async |verdict| {
        truncate(&pair, &fixture, faults, rate, verdict).await;
    })
    .await;
    verdict
}

async fn truncate(pair: &Pair, fixture: &Fixture, faults: &Faults, rate: f64, verdict: &mut Verdict) {
    let traffic = Traffic::start(pair.gateway.http(), rate);
    traffic.run_for(2 * SECOND).await;
    let mut cuts = Vec::new();
    for name in [fixture.ping_name(), fixture.pong_name()] {
        let offsets = faults.offsets(name, 0).unwrap();
        faults.truncate(name, 0, offsets.end / 2).unwrap();
        cuts.push(Instant::now());
        traffic.run_for(8 * SECOND).await;
    }
    let record = traffic.finish().await;
    record.judge_answers(verdict);
    for cut in cuts {
        let last = record.due(cut, cut + 8 * SECOND).last_failure_after(cut);
        record.due(cut + 5 * SECOND, cut + 8 * SECOND).judge_share(
            verdict,
            &format!("last failure {} after the truncation, from 5 s on", ms(last)),
            0.999,
        );
    }
    verdict.note(format!("all: {}", record.all().summary()));
    truncate_unread(pair, faults, fixture.ping_name(), verdict).await;
}

/// Requests that are truncated before the worker reads them, and requests that replace them.
const UNREAD: i64 = 256;

/// A worker cannot see what a truncated log contained: the timeouts of the gateway count the loss.
async fn truncate_unread(pair: &Pair, faults: &Faults, ping: &str, verdict: &mut Verdict) {
    let read = async || pair.worker.metric("worker_requests_total").await;
    let lost = async || sum(&pair.gateway, "gateway_requests_total{outcome=\"timeout\"").await;
    let (read_before, lost_before) = (read().await, lost().await);
    let send = |count| join_all((0..count).map(|_| pair.gateway.get("/ping")));
    let written = async |end: i64| {
        until("all requests are written", WAIT_LIMIT, async || {
            (faults.offsets(ping, 0).unwrap().end == end).then_some(())
        })
        .await;
    };
    let log = faults.offsets(ping, 0).unwrap();
    pair.worker.signal(Signal::STOP);
    // The open fetch of the worker takes one more request.
    let unread = async {
        written(log.end + 1).await;
        send(UNREAD).await
    };
    let cut = async {
        written(log.end + 1 + UNREAD).await;
        faults.truncate(ping, 0, log.start).unwrap();
        let go_on = async {
            written(log.start + UNREAD).await;
            pair.worker.signal(Signal::CONT);
        };
        tokio::join!(send(UNREAD), go_on).0
    };
    let (taken, unread, after) = tokio::join!(send(1), unread, cut);
    let responses = taken.iter().chain(&unread).chain(&after);
    let answered = responses.filter(|response| response.status == 200).count();
    let (read, lost) = (read().await - read_before, lost().await - lost_before);
    verdict.judge(
        lost == UNREAD && read == 1 + UNREAD && i64::try_from(answered) == Ok(read),
        format!(
            "{lost} of {UNREAD} truncated unread and counted as timed out; {read} others read, {answered} answered"
        ),
    );
}
