//! Faults of workers: killed, absent, two at once, too slow, or with duplicate, late and foreign replies.

use std::{sync::Arc, time::Duration};

use bench::Outcome;
use e2e::{
    fixture::Fixture,
    http::get,
    process::Process,
    topic::record,
    wait::{WAIT_LIMIT, until},
};
use futures_util::future::join_all;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::{
    fault::{Common, Fault, MAX_IN_FLIGHT, Pair, REPLY_TIMEOUT, counted_up_to, replies, sum},
    invariants::{Watch, judge_log, twice},
    scripted_worker::{ScriptedWorker, reply},
    traffic::Traffic,
    verdict::{Verdict, ms},
};

const SECOND: Duration = Duration::from_secs(1);

/// The tolerance for the time of a response.
const TOLERANCE: Duration = Duration::from_millis(100);

const FULL: Outcome = Outcome::Status(503);
const TIMED_OUT: Outcome = Outcome::Status(500);

/// Half of the usual rate: after the kill, all requests that are due during a pause of the machine are sent at once.
const MAX_RATE_AROUND_A_KILL: f64 = 2_000.0;

pub(crate) async fn killed(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let fixture = Fixture::shared(fault.engine).await;
    let Pair { gateway, mut worker } = Pair::ready(&fixture).await;
    let rate = fault.rate(1, &gateway).await.min(MAX_RATE_AROUND_A_KILL);
    twice(&[&gateway], &mut verdict, async |verdict| {
        kill(&mut worker, &gateway, &fixture, rate, verdict).await;
    })
    .await;
    verdict
}

/// Kills the worker under load. The next one starts a second later.
async fn kill(worker: &mut Process, gateway: &Process, fixture: &Fixture, rate: f64, verdict: &mut Verdict) {
    let traffic = Traffic::start(gateway.http(), rate);
    traffic.run_for(3 * SECOND).await;
    judge_log(worker, verdict);
    let killed = Instant::now();
    worker.signal(Signal::KILL);
    traffic.run_until(killed + SECOND).await;
    *worker = fixture.worker().ready().await;
    let ready = Instant::now();
    traffic.run_until(ready + 5 * SECOND).await;
    let record = traffic.finish().await;
    record.judge_answers(verdict);
    // The requests that are in flight when the next worker is ready, with at least half a second left. A 503 was not in
    // flight.
    let from = (ready + SECOND / 2)
        .checked_sub(REPLY_TIMEOUT)
        .map_or(killed, |start| start.max(killed));
    let waiting = record.due(from, ready);
    let (answered, refused) = (waiting.ok(), waiting.count(|outcome| outcome == FULL));
    let admitted = waiting.total() - refused;
    let share = answered as f64 / admitted.max(1) as f64;
    verdict.judge(
        admitted > 0 && share >= 0.99,
        format!(
            "ready {} after the kill; of {admitted} unexpired {answered} answered ({:.1} %)",
            ms(ready.duration_since(killed)),
            share * 100.0
        ),
    );
    let last = record.due_from(ready).last_failure_after(ready);
    record.due_from(ready + SECOND).judge_share(
        verdict,
        &format!("last failure {} after it, from 1 s on", ms(last)),
        0.999,
    );
    verdict.note(format!("{rate}/s, all: {}", record.all().summary()));
    judge_log(worker, verdict);
}

/// The highest number of requests in flight until an instant.
async fn most_in_flight(gateway: &Process, until: Instant) -> i64 {
    let mut most = 0;
    while Instant::now() < until {
        most = most.max(gateway.metric("gateway_in_flight").await);
        sleep(SECOND / 20).await;
    }
    most
}

pub(crate) async fn absent(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let fixture = Fixture::shared(fault.engine).await;
    let Pair { gateway, worker } = Pair::ready(&fixture).await;
    let rate = fault.rate(1, &gateway).await;
    let mut watch = Watch::of(&[&gateway]);
    drop(worker);
    let traffic = Traffic::start(gateway.http(), rate);
    let mut most = most_in_flight(&gateway, Instant::now() + 30 * SECOND).await;
    watch.sample();
    most = most.max(most_in_flight(&gateway, Instant::now() + 30 * SECOND).await);
    watch.sample();
    watch.judge_memory(&mut verdict);
    let record = traffic.finish().await;
    record.judge_answers(&mut verdict);
    let all = record.all();
    let times = |outcome: Outcome| {
        let entries = all.entries().filter(move |entry| entry.outcome == outcome);
        entries.map(|entry| entry.ended.duration_since(entry.sent))
    };
    let earliest = times(TIMED_OUT).min().unwrap_or_default();
    let latest = times(TIMED_OUT).max().unwrap_or_default();
    // Where no response can come, there is no timeout to be early for.
    if all.count(|outcome| outcome == TIMED_OUT) > 0 {
        verdict.judge(
            earliest + Duration::from_millis(2) >= REPLY_TIMEOUT && latest <= REPLY_TIMEOUT + TOLERANCE,
            format!("500 after {} to {}", ms(earliest), ms(latest)),
        );
    }
    let refused = all.latency(0.99, |outcome| outcome == FULL);
    let longest = times(FULL).max().unwrap_or_default();
    verdict.judge(
        refused <= TOLERANCE && longest <= REPLY_TIMEOUT + TOLERANCE,
        format!("503 after {} (p99), {} (longest)", ms(refused), ms(longest)),
    );
    verdict.judge(most <= MAX_IN_FLIGHT, format!("at most {most} in flight"));
    verdict.judge(all.ok() == 0, format!("{rate}/s for 60 s: {}", all.summary()));
    watch.judge(&mut verdict).await;
    verdict
}

/// The replies of a kind that the gateway has counted.
async fn counted(gateway: &Process, kind: &str) -> i64 {
    sum(gateway, &format!("gateway_replies_total{{kind=\"{kind}\"}}")).await
}

pub(crate) async fn twofold(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let fixture = Fixture::shared(fault.engine).await;
    let (pair, second) = tokio::join!(Pair::ready(&fixture), fixture.worker().ready());
    // Each request is processed twice.
    let rate = fault.rate(1, &pair.gateway).await / 2.0;
    verdict.note(format!("{rate}/s"));
    twice(&[&pair.gateway, &pair.worker, &second], &mut verdict, async |verdict| {
        // One of the workers may still reply to requests of the previous round.
        let duplicates_before = until("all replies are counted", WAIT_LIMIT, async || {
            let duplicates = counted(&pair.gateway, "duplicate").await;
            (counted(&pair.gateway, "answered").await == duplicates).then_some(duplicates)
        })
        .await;
        let traffic = Traffic::start(pair.gateway.http(), rate);
        traffic.run_for(10 * SECOND).await;
        let record = traffic.finish().await;
        record.judge_answers(verdict);
        record.all().judge_share(verdict, "answered once", 0.9999);
        // The second reply to the last request may arrive later.
        let expected = i64::try_from(record.all().ok()).unwrap();
        let duplicates = counted_up_to(expected, async || {
            counted(&pair.gateway, "duplicate").await - duplicates_before
        })
        .await;
        verdict.judge(
            duplicates == expected,
            format!("{duplicates} duplicates counted for {expected} responses"),
        );
    })
    .await;
    verdict
}

/// The replies per second of the slow worker. The load has twice the rate.
const SLOW_RATE: f64 = 2_000.0;

/// A `MAX_IN_FLIGHT` that is not reached: the adaptive limit refuses.
const HIGH_MAX_IN_FLIGHT: i64 = 16_384;

/// The duration of the overload.
const OVERLOAD: Duration = Duration::from_secs(10);

/// The 503 responses whose headers are checked.
const CHECKED: usize = 50;

pub(crate) async fn slow(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    for (max_in_flight, outcome) in [(MAX_IN_FLIGHT, "full"), (HIGH_MAX_IN_FLIGHT, "overloaded")] {
        let fixture = Fixture::shared(fault.engine).await;
        let setup = fixture
            .gateway()
            .common()
            .set("MAX_IN_FLIGHT", max_in_flight.to_string());
        let gateway = setup.ready().await;
        let worker = ScriptedWorker::start(&fixture, Some(SLOW_RATE), Arc::new(|request| vec![reply(request)]));
        let warm_up = Traffic::start(gateway.http(), SLOW_RATE / 2.0);
        warm_up.run_for(2 * SECOND).await;
        warm_up.finish().await.judge_answers(&mut verdict);
        verdict.note(format!("MAX_IN_FLIGHT {max_in_flight}"));
        twice(&[&gateway], &mut verdict, async |verdict| {
            overload(&gateway, outcome, verdict).await;
        })
        .await;
        worker.stop();
    }
    verdict
}

/// Twice the rate of the worker, then half of it.
async fn overload(gateway: &Process, outcome: &str, verdict: &mut Verdict) {
    let shed = async || sum(gateway, &format!("gateway_requests_total{{outcome=\"{outcome}\",")).await;
    let shed_before = shed().await;
    let begun = Instant::now();
    let traffic = Traffic::start(gateway.http(), 2.0 * SLOW_RATE);
    // Single requests for their headers, more at once than one batch of replies frees places.
    traffic.run_until(begun + OVERLOAD / 2).await;
    let mut retry_after = Vec::new();
    while retry_after.len() < CHECKED && begun.elapsed() + REPLY_TIMEOUT < OVERLOAD {
        let responses = join_all((0..2 * CHECKED).map(|_| gateway.exchange(get("/ping")))).await;
        let refused = responses.iter().filter(|response| response.status == 503);
        retry_after.extend(refused.map(|response| response.header("retry-after").is_some()));
    }
    traffic.run_until(begun + OVERLOAD).await;
    let ended = Instant::now();
    let over = tokio::spawn(traffic.finish());
    let traffic = Traffic::start(gateway.http(), SLOW_RATE / 2.0);
    traffic.run_for(5 * SECOND).await;
    let (after, over) = (traffic.finish().await, over.await.unwrap());
    over.judge_answers(verdict);
    after.judge_answers(verdict);
    // Without the first second, in which the number in flight rises to its limit.
    let full = over.due(begun + SECOND, ended);
    let goodput = full.ok() as f64 / ended.duration_since(begun + SECOND).as_secs_f64();
    verdict.judge(
        goodput >= 0.9 * SLOW_RATE,
        format!("goodput {goodput:.0}/s ({:.0} %)", goodput / SLOW_RATE * 100.0),
    );
    let refused = full.latency(0.99, |outcome| outcome == FULL);
    verdict.judge(
        refused <= SECOND / 20 && full.count(|outcome| outcome == FULL) > 0,
        format!("503 in {} (p99)", ms(refused)),
    );
    let with_header = retry_after.iter().filter(|has_header| **has_header).count();
    verdict.judge(
        with_header > 0 && with_header == retry_after.len(),
        format!("{with_header} of {} with Retry-After", retry_after.len()),
    );
    let shed = shed().await - shed_before;
    verdict.judge(shed > 0, format!("{shed} {outcome}"));
    verdict.note(full.summary());
    after
        .due_from(ended + 2 * SECOND)
        .judge_share(verdict, "from 2 s after the overload on", 0.999);
    verdict.note(format!(
        "last failure {} after it",
        ms(after.all().last_failure_after(ended))
    ));
}

pub(crate) async fn unmatched_replies(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let fixture = Fixture::shared(fault.engine).await;
    let gateway = fixture.gateway().common().ready().await;
    twice(&[&gateway], &mut verdict, async |verdict| {
        give_unmatched_replies(&gateway, &fixture, verdict).await;
    })
    .await;
    verdict
}

/// Each reply three times, then each reply too late, then replies to unknown ids.
async fn give_unmatched_replies(gateway: &Process, fixture: &Fixture, verdict: &mut Verdict) {
    const COUNT: i64 = 500;
    let before = replies(gateway).await;
    let counted = async |kind: &str| counted(gateway, kind).await;
    let settled =
        async |kind: &str, was: i64, expected: i64| counted_up_to(expected, async || counted(kind).await - was).await;

    let rate = 250.0;
    let two_seconds = Duration::from_millis(1_998);
    let was = counted("duplicate").await;
    let thrice = ScriptedWorker::start(fixture, None, Arc::new(|request| vec![reply(request); 3]));
    let traffic = Traffic::start(gateway.http(), rate);
    traffic.run_for(two_seconds).await;
    let record = traffic.finish().await;
    record.judge_answers(verdict);
    record.all().judge_share(verdict, "thrice", 1.0);
    let sent = i64::try_from(record.all().total()).unwrap();
    let sent_thrice = sent;
    let duplicates = settled("duplicate", was, 2 * sent).await;
    verdict.judge(
        duplicates == 2 * sent,
        format!("{duplicates} duplicates counted of {}", 2 * sent),
    );
    thrice.stop();

    let was = counted("late").await;
    let late = ScriptedWorker::start(fixture, None, Arc::new(|request| vec![reply(request)]))
        .delayed(REPLY_TIMEOUT + SECOND / 2);
    let traffic = Traffic::start(gateway.http(), rate);
    traffic.run_for(two_seconds).await;
    let record = traffic.finish().await;
    record.judge_answers(verdict);
    let (timed_out, sent) = (record.all().count(|outcome| outcome == TIMED_OUT), record.all().total());
    verdict.judge(timed_out == sent, format!("late: {timed_out} of {sent} timed out"));
    let sent = i64::try_from(sent).unwrap();
    let counted_late = settled("late", was, sent).await;
    verdict.judge(counted_late == sent, format!("{counted_late} late counted of {sent}"));
    late.stop();

    let was = counted("foreign").await;
    let pong = fixture.pong().await;
    let foreign = (0..COUNT).map(|_| foreign_reply()).collect();
    pong.write_batch(foreign).await;
    let counted_foreign = settled("foreign", was, COUNT).await;
    verdict.judge(
        counted_foreign == COUNT,
        format!("{counted_foreign} foreign counted of {COUNT}"),
    );
    // Each reply has one kind.
    let after = replies(gateway).await - before;
    verdict.judge(
        after == duplicates + counted_late + counted_foreign + sent_thrice,
        format!("{after} replies in all"),
    );
}

fn foreign_reply() -> rskafka::record::Record {
    let id = uuid::Uuid::new_v4().to_string();
    record(Some(id.as_bytes()), Some(b"foreign"))
}
