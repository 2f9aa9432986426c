//! The topics change under the processes' hands.

use std::time::Duration;

use e2e::{
    process::Process,
    scene::Scene,
    topic,
    wait::{SOON, until},
};
use rustix::process::Signal;
use tokio::time::Instant;

use crate::{
    stage::{Pair, Stage},
    traffic::Traffic,
    verdict::{Verdict, ms},
};

const SECOND: Duration = Duration::from_secs(1);

pub(crate) async fn recreated(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let scene = Scene::shared(stage.engine).await;
    let mut pair = Pair::ready(&scene).await;
    let rate = stage.rate(1, &pair.gateway).await;
    verdict.note(format!("{rate}/s"));
    let before = pair.before();
    let traffic = Traffic::start(pair.gateway.http(), rate);
    traffic.run_for(3 * SECOND).await;
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
    traffic.run_for(10 * SECOND).await;
    let record = traffic.finish().await;
    record.judge_answers(&mut verdict);
    let last = record.due_from(created).last_failure_after(created);
    record.due_from(created + 5 * SECOND).judge_share(
        &mut verdict,
        &format!("last failure {} after the creation, from 5 s on", ms(last)),
        0.999,
    );
    verdict.note(format!("all: {}", record.all().summary()));
    pair.judge(&before, &mut verdict).await;
    verdict
}

async fn lost(process: &Process) -> i64 {
    process
        .metric(&format!("{}_kafka_tail_records_lost_total", process.name()))
        .await
}

pub(crate) async fn records_deleted(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let scene = Scene::shared(stage.engine).await;
    let ping = scene.ping().await;
    let mut pair = Pair::ready(&scene).await;
    let rate = stage.rate(1, &pair.gateway).await;
    verdict.note(format!("{rate}/s"));
    let before = pair.before();
    let traffic = Traffic::start(pair.gateway.http(), rate);
    traffic.run_for(2 * SECOND).await;
    // It stops where it is, and the log goes on without it.
    pair.worker.signal(Signal::STOP);
    traffic.run_for(2 * SECOND).await;
    let end = ping.end().await;
    ping.delete_before(end).await;
    pair.worker.signal(Signal::CONT);
    let resumed = Instant::now();
    traffic.run_for(10 * SECOND).await;
    let record = traffic.finish().await;
    record.judge_answers(&mut verdict);
    let last = record.due_from(resumed).last_failure_after(resumed);
    record.due_from(resumed + 5 * SECOND).judge_share(
        &mut verdict,
        &format!("last failure {} after SIGCONT, from 5 s on", ms(last)),
        0.999,
    );
    let end = ping.end().await;
    let read = until("the worker is through", SOON, async || {
        let sum = pair.worker.metric("worker_requests_total").await + lost(&pair.worker).await;
        (sum >= end).then_some(sum)
    })
    .await;
    let gone = lost(&pair.worker).await;
    verdict.judge(
        gone > 0 && read == end,
        format!("{gone} counted as lost; with them {read} of {end} requests accounted for"),
    );
    pair.judge(&before, &mut verdict).await;
    verdict
}

pub(crate) async fn log_truncated(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let cluster = stage.engine.own(1).await;
    let faults = cluster.faults().expect("the built-in broker can truncate");
    let scene = Scene::on(&cluster);
    let mut pair = Pair::ready(&scene).await;
    let rate = stage.rate(1, &pair.gateway).await;
    verdict.note(format!("{rate}/s"));
    let before = pair.before();
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
    record.judge_answers(&mut verdict);
    for cut in cuts {
        let last = record.due(cut, cut + 8 * SECOND).last_failure_after(cut);
        record.due(cut + 5 * SECOND, cut + 8 * SECOND).judge_share(
            &mut verdict,
            &format!("last failure {} after the truncation, from 5 s on", ms(last)),
            0.999,
        );
    }
    verdict.note(format!("all: {}", record.all().summary()));
    pair.judge(&before, &mut verdict).await;
    verdict
}
