//! No worker, two of them, one that dies, one that is too slow.

use std::{sync::Arc, time::Duration};

use bench::Fate;
use e2e::{
    http::get,
    process::Process,
    scene::Scene,
    topic::record,
    wait::{SOON, until},
};
use futures_util::future::join_all;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::{
    hand::{HandWorker, reply},
    stage::{Common, MAX_IN_FLIGHT, Pair, REPLY_TIMEOUT, Stage, counted_up_to, replies, sum},
    traffic::Traffic,
    verdict::{Verdict, ms},
    watch::{Watch, judge_log, twice},
};

const SECOND: Duration = Duration::from_secs(1);

/// How much later than its timeout a caller may be told.
const SLACK: Duration = Duration::from_millis(100);

const FULL: Fate = Fate::Status(503);
const TIMED_OUT: Fate = Fate::Status(500);

/// Half of what is asked elsewhere: after the kill as many connections are open as callers may wait, and all that became due in a
/// pause of the machine goes out at once.
const MAX_RATE_AROUND_A_KILL: f64 = 2_000.0;

pub(crate) async fn killed(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let scene = Scene::shared(stage.engine).await;
    let Pair { gateway, mut worker } = Pair::ready(&scene).await;
    let rate = stage.rate(1, &gateway).await.min(MAX_RATE_AROUND_A_KILL);
    twice(&[&gateway], &mut verdict, async |verdict| {
        kill(&mut worker, &gateway, &scene, rate, verdict).await;
    })
    .await;
    verdict
}

/// Kills the worker under load; another takes its place a second later.
async fn kill(worker: &mut Process, gateway: &Process, scene: &Scene, rate: f64, verdict: &mut Verdict) {
    let traffic = Traffic::start(gateway.http(), rate);
    traffic.run_for(3 * SECOND).await;
    judge_log(worker, verdict);
    let killed = Instant::now();
    worker.signal(Signal::KILL);
    traffic.run_until(killed + SECOND).await;
    *worker = scene.worker().ready().await;
    let ready = Instant::now();
    traffic.run_until(ready + 5 * SECOND).await;
    let record = traffic.finish().await;
    record.judge_answers(verdict);
    // Those who wait at the moment when there is a worker again, and have half a second left. Whoever was refused at once
    // (503) does not wait.
    let from = (ready + SECOND / 2)
        .checked_sub(REPLY_TIMEOUT)
        .map_or(killed, |it| it.max(killed));
    let waiting = record.due(from, ready);
    let (answered, refused) = (waiting.ok(), waiting.count(|it| it == FULL));
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

/// The highest number of callers that wait, looked at while something goes on.
async fn most_pending(gateway: &Process, until: Instant) -> i64 {
    let mut most = 0;
    while Instant::now() < until {
        most = most.max(gateway.metric("gateway_in_flight").await);
        sleep(SECOND / 20).await;
    }
    most
}

pub(crate) async fn absent(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let scene = Scene::shared(stage.engine).await;
    let Pair { gateway, worker } = Pair::ready(&scene).await;
    let rate = stage.rate(1, &gateway).await;
    let mut watch = Watch::of(&[&gateway]);
    drop(worker);
    let traffic = Traffic::start(gateway.http(), rate);
    let mut most = most_pending(&gateway, Instant::now() + 30 * SECOND).await;
    watch.look();
    most = most.max(most_pending(&gateway, Instant::now() + 30 * SECOND).await);
    watch.look();
    watch.judge_memory(&mut verdict);
    let record = traffic.finish().await;
    record.judge_answers(&mut verdict);
    let all = record.all();
    let told = |fate: Fate| {
        let entries = all.entries().filter(move |it| it.fate == fate);
        entries.map(|it| it.ended.duration_since(it.sent))
    };
    let earliest = told(TIMED_OUT).min().unwrap_or_default();
    let latest = told(TIMED_OUT).max().unwrap_or_default();
    // Where it is known that nobody can answer, there is no timeout to be early for.
    if all.count(|it| it == TIMED_OUT) > 0 {
        verdict.judge(
            earliest + Duration::from_millis(2) >= REPLY_TIMEOUT && latest <= REPLY_TIMEOUT + SLACK,
            format!("500 after {} to {}", ms(earliest), ms(latest)),
        );
    }
    let refused = all.latency(0.99, |it| it == FULL);
    let longest = told(FULL).max().unwrap_or_default();
    verdict.judge(
        refused <= SLACK && longest <= REPLY_TIMEOUT + SLACK,
        format!("503 after {} (p99), {} (longest)", ms(refused), ms(longest)),
    );
    verdict.judge(most <= MAX_IN_FLIGHT, format!("at most {most} pending"));
    verdict.judge(all.ok() == 0, format!("{rate}/s for 60 s: {}", all.summary()));
    watch.judge(&mut verdict).await;
    verdict
}

/// Replies of a kind that the gateway has counted.
async fn counted(gateway: &Process, kind: &str) -> i64 {
    sum(gateway, &format!("gateway_replies_total{{kind=\"{kind}\"}}")).await
}

pub(crate) async fn twofold(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let scene = Scene::shared(stage.engine).await;
    let (pair, second) = tokio::join!(Pair::ready(&scene), scene.worker().ready());
    // Each request is answered twice, so the two take twice what one takes.
    let rate = stage.rate(1, &pair.gateway).await / 2.0;
    verdict.note(format!("{rate}/s"));
    twice(&[&pair.gateway, &pair.worker, &second], &mut verdict, async |verdict| {
        // One of the two may be behind still with what was asked before.
        let duplicates_before = until("both have answered all", SOON, async || {
            let duplicates = counted(&pair.gateway, "duplicate").await;
            (counted(&pair.gateway, "answered").await == duplicates).then_some(duplicates)
        })
        .await;
        let traffic = Traffic::start(pair.gateway.http(), rate);
        traffic.run_for(10 * SECOND).await;
        let record = traffic.finish().await;
        record.judge_answers(verdict);
        record.all().judge_share(verdict, "answered once", 0.9999);
        // The second reply to the last request may be under way still.
        let expected = i64::try_from(record.all().ok()).unwrap();
        let duplicates = counted_up_to(expected, async || {
            counted(&pair.gateway, "duplicate").await - duplicates_before
        })
        .await;
        verdict.judge(
            duplicates == expected,
            format!("{duplicates} duplicates counted for {expected} answers"),
        );
    })
    .await;
    verdict
}

/// What the slow worker answers per second, and twice as much is asked.
const SLOW_RATE: f64 = 2_000.0;

/// So many may wait where nobody meets the cap: it is the gateway's prediction that refuses.
const ROOMY: i64 = 16_384;

/// How long too much is asked.
const OVERLOAD: Duration = Duration::from_secs(10);

/// How many refusals are looked at word for word.
const REFUSALS: usize = 50;

pub(crate) async fn slow(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    for (max_in_flight, outcome) in [(MAX_IN_FLIGHT, "full"), (ROOMY, "overloaded")] {
        let scene = Scene::shared(stage.engine).await;
        let setup = scene.gateway().common().set("MAX_IN_FLIGHT", max_in_flight.to_string());
        let gateway = setup.ready().await;
        let worker = HandWorker::start(&scene, Some(SLOW_RATE), Arc::new(|request| vec![reply(request)]));
        let warm_up = Traffic::start(gateway.http(), SLOW_RATE / 2.0);
        warm_up.run_for(2 * SECOND).await;
        warm_up.finish().await.judge_answers(&mut verdict);
        verdict.note(format!("cap {max_in_flight}"));
        twice(&[&gateway], &mut verdict, async |verdict| {
            overload(&gateway, outcome, verdict).await;
        })
        .await;
        worker.stop();
    }
    verdict
}

/// Twice what the worker does, and then half of it.
async fn overload(gateway: &Process, outcome: &str, verdict: &mut Verdict) {
    let shed = async || sum(gateway, &format!("gateway_requests_total{{outcome=\"{outcome}\",")).await;
    let shed_before = shed().await;
    let begun = Instant::now();
    let traffic = Traffic::start(gateway.http(), 2.0 * SLOW_RATE);
    // Refusals word for word, for their header. Far more ask at once than places are left by the replies of one batch.
    traffic.run_until(begun + OVERLOAD / 2).await;
    let mut retry_after = Vec::new();
    while retry_after.len() < REFUSALS && begun.elapsed() + REPLY_TIMEOUT < OVERLOAD {
        let answers = join_all((0..2 * REFUSALS).map(|_| gateway.ask(get("/ping")))).await;
        let refused = answers.iter().filter(|it| it.status == 503);
        retry_after.extend(refused.map(|it| it.header("retry-after").is_some()));
    }
    traffic.run_until(begun + OVERLOAD).await;
    let ended = Instant::now();
    let over = tokio::spawn(traffic.finish());
    let traffic = Traffic::start(gateway.http(), SLOW_RATE / 2.0);
    traffic.run_for(5 * SECOND).await;
    let (after, over) = (traffic.finish().await, over.await.unwrap());
    over.judge_answers(verdict);
    after.judge_answers(verdict);
    // The first second fills the places of those who wait.
    let full = over.due(begun + SECOND, ended);
    let goodput = full.ok() as f64 / ended.duration_since(begun + SECOND).as_secs_f64();
    verdict.judge(
        goodput >= 0.9 * SLOW_RATE,
        format!("goodput {goodput:.0}/s ({:.0} %)", goodput / SLOW_RATE * 100.0),
    );
    let refused = full.latency(0.99, |it| it == FULL);
    verdict.judge(
        refused <= SECOND / 20 && full.count(|it| it == FULL) > 0,
        format!("503 in {} (p99)", ms(refused)),
    );
    let with_header = retry_after.iter().filter(|it| **it).count();
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

pub(crate) async fn odd_replies(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let scene = Scene::shared(stage.engine).await;
    let gateway = scene.gateway().common().ready().await;
    twice(&[&gateway], &mut verdict, async |verdict| {
        give_odd_replies(&gateway, &scene, verdict).await;
    })
    .await;
    verdict
}

/// Each reply three times; then each too late; then replies to ids that nobody has.
async fn give_odd_replies(gateway: &Process, scene: &Scene, verdict: &mut Verdict) {
    const COUNT: i64 = 500;
    let before = replies(gateway).await;
    let counted = async |kind: &str| counted(gateway, kind).await;
    let settled =
        async |kind: &str, was: i64, expected: i64| counted_up_to(expected, async || counted(kind).await - was).await;

    let rate = 250.0;
    let two_seconds = Duration::from_millis(1_998);
    let was = counted("duplicate").await;
    let thrice = HandWorker::start(scene, None, Arc::new(|request| vec![reply(request); 3]));
    let traffic = Traffic::start(gateway.http(), rate);
    traffic.run_for(two_seconds).await;
    let record = traffic.finish().await;
    record.judge_answers(verdict);
    record.all().judge_share(verdict, "thrice", 1.0);
    let asked = i64::try_from(record.all().total()).unwrap();
    let asked_thrice = asked;
    let duplicates = settled("duplicate", was, 2 * asked).await;
    verdict.judge(
        duplicates == 2 * asked,
        format!("{duplicates} duplicates counted of {}", 2 * asked),
    );
    thrice.stop();

    let was = counted("late").await;
    let late =
        HandWorker::start(scene, None, Arc::new(|request| vec![reply(request)])).delayed(REPLY_TIMEOUT + SECOND / 2);
    let traffic = Traffic::start(gateway.http(), rate);
    traffic.run_for(two_seconds).await;
    let record = traffic.finish().await;
    record.judge_answers(verdict);
    let (told, asked) = (record.all().count(|it| it == TIMED_OUT), record.all().total());
    verdict.judge(told == asked, format!("late: {told} of {asked} told at their timeout"));
    let asked = i64::try_from(asked).unwrap();
    let counted_late = settled("late", was, asked).await;
    verdict.judge(counted_late == asked, format!("{counted_late} late counted of {asked}"));
    late.stop();

    let was = counted("foreign").await;
    let pong = scene.pong().await;
    let foreign = (0..COUNT).map(|_| record_of_nobody()).collect();
    pong.write_batch(foreign).await;
    let counted_foreign = settled("foreign", was, COUNT).await;
    verdict.judge(
        counted_foreign == COUNT,
        format!("{counted_foreign} foreign counted of {COUNT}"),
    );
    // Each in its own counter, and in no other.
    let after = replies(gateway).await - before;
    verdict.judge(
        after == duplicates + counted_late + counted_foreign + asked_thrice,
        format!("{after} replies in all"),
    );
}

fn record_of_nobody() -> rskafka::record::Record {
    let id = uuid::Uuid::new_v4().to_string();
    record(Some(id.as_bytes()), Some(b"for somebody else"))
}
