//! A long run of everything at once.

use std::{net::SocketAddr, time::Duration};

use bench::{Fate, Load, Question};
use e2e::{
    environment::Environment,
    http::{Connection, get},
    scene::Scene,
};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    stage::{Pair, Stage},
    traffic::{Record, Traffic, open_loop},
    verdict::{Verdict, ms},
};

const MINUTE: Duration = Duration::from_secs(60);

/// From when on memory and latency are compared.
const WARM: Duration = Duration::from_secs(120);

/// Between two looks at the memory.
const SAMPLE: Duration = Duration::from_secs(2);

/// Asks and leaves without the answer, so many times per second.
async fn leave_again_and_again(addr: SocketAddr, per_second: u32) {
    let mut ticks = interval(Duration::from_secs(1) / per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        if let Ok(mut caller) = Connection::open(addr).await {
            // It leaves in any case.
            let _ = caller.send(get("/ping")).await;
        }
    }
}

pub(crate) async fn mixed(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let mut pair = Pair::ready(&Scene::shared(stage.engine).await).await;
    let rate = stage.rate(1, &pair.gateway).await / 2.0;
    let length = Environment::read().soak;
    // Without two minutes to warm up there is nothing to compare.
    let warm = WARM.min(length / 3);
    let before = pair.before();
    let addr = pair.gateway.http();
    let sized = |rate, body_bytes| {
        Traffic::of(Load {
            question: Question::Post {
                body_bytes: Some(body_bytes),
            },
            ..open_loop(addr, rate)
        })
    };
    let begun = Instant::now();
    let small = Traffic::start(addr, rate);
    let (medium, large) = (sized(100.0, 4_000), sized(20.0, 40_000));
    let leaving = tokio::spawn(leave_again_and_again(addr, 100));
    let mut samples = Vec::new();
    let mut ticks = interval(SAMPLE);
    while begun.elapsed() < length {
        ticks.tick().await;
        samples.push((
            begun.elapsed(),
            [&pair.gateway, &pair.worker].map(|it| it.footprint().memory_bytes),
        ));
    }
    leaving.abort();
    let ended = Instant::now();
    let (small, medium, large) = (small.finish().await, medium.finish().await, large.finish().await);
    verdict.note(format!(
        "{:.0} min of {rate}/s small, 100/s of 4 kB, 20/s of 40 kB, 100/s leaving",
        length.as_secs_f64() / 60.0
    ));
    for record in [&small, &medium, &large] {
        record.judge_answers(&mut verdict);
        record.all().judge_share(&mut verdict, "all", 0.9999);
    }
    samples.retain(|it| it.0 >= warm);
    for (index, process) in [&pair.gateway, &pair.worker].iter().enumerate() {
        let points: Vec<_> = samples.iter().map(|it| (it.0, it.1[index])).collect();
        let slope = slope_mib_per_minute(&points);
        verdict.judge(slope < 1.0, format!("{}: {slope:.2} MiB/min", process.name()));
    }
    judge_drift(&mut verdict, &small, begun + warm, ended);
    pair.judge(&before, &mut verdict).await;
    verdict
}

/// The first minute after the warm-up against the last one.
fn judge_drift(verdict: &mut Verdict, record: &Record, warm: Instant, ended: Instant) {
    let window = MINUTE.min(ended.duration_since(warm) / 3);
    let p99 = |from| record.due(from, from + window).latency(0.99, |it| it == Fate::Ok);
    let (first, last) = (p99(warm), p99(ended - window));
    let drift = last.as_secs_f64() / first.as_secs_f64() - 1.0;
    verdict.judge(
        drift < 0.2,
        format!("p99 {} → {} ({:+.0} %)", ms(first), ms(last), drift * 100.0),
    );
}

/// The least-squares line through the points.
fn slope_mib_per_minute(points: &[(Duration, u64)]) -> f64 {
    let count = points.len().max(1) as f64;
    let xy = || {
        points
            .iter()
            .map(|(time, bytes)| (time.as_secs_f64() / 60.0, *bytes as f64 / f64::from(1 << 20)))
    };
    let mean_x = xy().map(|it| it.0).sum::<f64>() / count;
    let mean_y = xy().map(|it| it.1).sum::<f64>() / count;
    let covariance: f64 = xy().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let variance: f64 = xy().map(|(x, _)| (x - mean_x).powi(2)).sum();
    if variance > 0.0 { covariance / variance } else { 0.0 }
}
