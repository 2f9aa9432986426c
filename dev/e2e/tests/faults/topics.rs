//! The topics change under the processes' hands.

use std::time::Duration;

use broker::Faults;
use e2e::{
    process::Process,
    scene::Scene,
    topic::{self, Topic},
    wait::{SOON, until},
};
use futures_util::future::join_all;
use rustix::process::Signal;
use tokio::time::Instant;

use crate::{
    stage::{Pair, Stage, sum},
    traffic::Traffic,
    verdict::{Verdict, ms},
    watch::twice,
};

const SECOND: Duration = Duration::from_secs(1);

/// Half of what is asked elsewhere: the refusals themselves take 40 µs each where few come at once, and it is what the
/// process does beside them that is judged.
const MAX_RATE_WITHOUT_TOPICS: f64 = 2_000.0;

pub(crate) async fn recreated(stage: &Stage<'_>) -> Verdict {
    recreated_of(stage, 1, &Scene::shared(stage.engine).await).await
}

pub(crate) async fn recreated_on_three(stage: &Stage<'_>) -> Verdict {
    let cluster = stage.engine.own(3).await;
    recreated_of(stage, 3, &Scene::on(&cluster)).await
}

async fn recreated_of(stage: &Stage<'_>, nodes: u32, scene: &Scene) -> Verdict {
    let mut verdict = Verdict::default();
    let pair = Pair::ready(scene).await;
    let rate = stage.rate(nodes, &pair.gateway).await.min(MAX_RATE_WITHOUT_TOPICS);
    verdict.note(format!("{rate}/s"));
    twice(&pair.processes(), &mut verdict, async |verdict| {
        recreate(&pair, scene, rate, verdict).await;
    })
    .await;
    verdict
}

async fn recreate(pair: &Pair, scene: &Scene, rate: f64, verdict: &mut Verdict) {
    let traffic = Traffic::start(pair.gateway.http(), rate);
    traffic.run_for(2 * SECOND).await;
    for name in [scene.ping_name(), scene.pong_name()] {
        topic::delete(scene.brokers(), name).await;
    }
    tokio::join!(pair.gateway.until_unready(), pair.worker.until_unready());
    let cpu = || [&pair.gateway, &pair.worker].map(|it| it.footprint().cpu);
    let (start, spent) = (Instant::now(), cpu());
    traffic.run_for(5 * SECOND).await;
    for (process, (now, then)) in [&pair.gateway, &pair.worker].iter().zip(cpu().into_iter().zip(spent)) {
        let share = (now - then).as_secs_f64() / start.elapsed().as_secs_f64();
        verdict.judge(
            share < 0.2,
            format!("{}: {:.1} % of a core while absent", process.name(), share * 100.0),
        );
    }
    for name in [scene.ping_name(), scene.pong_name()] {
        topic::create(scene.brokers(), name, 1).await;
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

pub(crate) async fn records_deleted(stage: &Stage<'_>) -> Verdict {
    records_deleted_of(stage, 1, &Scene::shared(stage.engine).await).await
}

pub(crate) async fn records_deleted_on_three(stage: &Stage<'_>) -> Verdict {
    let cluster = stage.engine.own(3).await;
    records_deleted_of(stage, 3, &Scene::on(&cluster)).await
}

async fn records_deleted_of(stage: &Stage<'_>, nodes: u32, scene: &Scene) -> Verdict {
    let mut verdict = Verdict::default();
    let ping = scene.ping().await;
    let pair = Pair::ready(scene).await;
    let rate = stage.rate(nodes, &pair.gateway).await;
    verdict.note(stage.load(nodes));
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
    // It stops where it is, and the log goes on without it.
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
    let read = until("the worker is through", SOON, async || {
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

pub(crate) async fn log_truncated(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let cluster = stage.engine.own(1).await;
    let faults = cluster.faults().expect("the built-in broker can truncate");
    let scene = Scene::on(&cluster);
    let pair = Pair::ready(&scene).await;
    let rate = stage.rate(1, &pair.gateway).await;
    verdict.note(stage.load(1));
    twice(&pair.processes(), &mut verdict, async |verdict| {
        truncate(&pair, &scene, faults, rate, verdict).await;
    })
    .await;
    verdict
}

async fn truncate(pair: &Pair, scene: &Scene, faults: &Faults, rate: f64, verdict: &mut Verdict) {
    let traffic = Traffic::start(pair.gateway.http(), rate);
    traffic.run_for(2 * SECOND).await;
    let mut cuts = Vec::new();
    for name in [scene.ping_name(), scene.pong_name()] {
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
    cut_unread(pair, faults, scene.ping_name(), verdict).await;
}

/// So many requests are cut off before the worker has read them, and as many take their place.
const UNREAD: i64 = 256;

/// Where a log is cut off, nobody can see what was in it: it is the gateway that counts what was lost, by those who waited.
async fn cut_unread(pair: &Pair, faults: &Faults, ping: &str, verdict: &mut Verdict) {
    let read = async || pair.worker.metric("worker_requests_total").await;
    let lost = async || sum(&pair.gateway, "gateway_requests_total{outcome=\"timeout\"").await;
    let (read_before, lost_before) = (read().await, lost().await);
    let ask = |count| join_all((0..count).map(|_| pair.gateway.get("/ping")));
    let written = async |end: i64| {
        until("all requests are written", SOON, async || {
            (faults.offsets(ping, 0).unwrap().end == end).then_some(())
        })
        .await;
    };
    let log = faults.offsets(ping, 0).unwrap();
    pair.worker.signal(Signal::STOP);
    // One more goes into the fetch that it waits for.
    let unread = async {
        written(log.end + 1).await;
        ask(UNREAD).await
    };
    let cut = async {
        written(log.end + 1 + UNREAD).await;
        faults.truncate(ping, 0, log.start).unwrap();
        let go_on = async {
            written(log.start + UNREAD).await;
            pair.worker.signal(Signal::CONT);
        };
        tokio::join!(ask(UNREAD), go_on).0
    };
    let (taken, unread, after) = tokio::join!(ask(1), unread, cut);
    let answers = taken.iter().chain(&unread).chain(&after);
    let answered = answers.filter(|it| it.status == 200).count();
    let (read, lost) = (read().await - read_before, lost().await - lost_before);
    verdict.judge(
        lost == UNREAD && read == 1 + UNREAD && i64::try_from(answered) == Ok(read),
        format!("{lost} of {UNREAD} cut off unread and counted as timed out; {read} others read, {answered} answered"),
    );
}
