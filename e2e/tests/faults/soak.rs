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
    watch::Watch,
};

/// From when on memory and latency are compared.
const WARM: Duration = Duration::from_secs(120);

/// Of so much time each p99 is.
const WINDOW: Duration = Duration::from_secs(10);

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
    let pair = Pair::ready(&Scene::shared(stage.engine).await).await;
    let rate = stage.rate(1, &pair.gateway).await / 2.0;
    let length = Environment::read().soak;
    // Without two minutes to warm up there is nothing to compare.
    let warm = WARM.min(length / 3);
    let watch = Watch::of(&pair.processes());
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
        let points: Vec<_> = samples.iter().map(|it| (it.0, it.1[index] as f64)).collect();
        let slope = Line::through(&points).per_second * 60.0 / f64::from(1 << 20);
        verdict.judge(slope < 1.0, format!("{}: {slope:.2} MiB/min", process.name()));
    }
    judge_drift(&mut verdict, &small, begun + warm, ended);
    watch.judge(&mut verdict).await;
    verdict
}

/// How the p99 goes, by the line through it: one minute and another differ by whatever else the machine does.
fn judge_drift(verdict: &mut Verdict, record: &Record, warm: Instant, ended: Instant) {
    let mut points = Vec::new();
    let mut from = warm;
    while from + WINDOW <= ended {
        let p99 = record.due(from, from + WINDOW).latency(0.99, |it| it == Fate::Ok);
        points.push((from.duration_since(warm), p99.as_secs_f64()));
        from += WINDOW;
    }
    let minutes = points.chunks(6).map(|minute| {
        let sum: f64 = minute.iter().map(|it| it.1).sum();
        format!("{:.1}", sum / minute.len() as f64 * 1e3)
    });
    let minutes: Vec<_> = minutes.collect();
    verdict.note(format!("p99 by the minute, ms: {}", minutes.join(", ")));
    let line = Line::through(&points);
    let [first, last] = [points.first(), points.last()].map(|it| line.at(it.map_or(Duration::ZERO, |it| it.0)));
    let drift = last / first - 1.0;
    verdict.judge(
        drift < 0.2,
        format!(
            "p99 {} → {} ({:+.0} %), by the line through {} windows",
            ms(Duration::from_secs_f64(first.max(0.0))),
            ms(Duration::from_secs_f64(last.max(0.0))),
            drift * 100.0,
            points.len()
        ),
    );
}

/// The line with the least squares.
struct Line {
    start: f64,
    per_second: f64,
}

// === impl Line ===

impl Line {
    fn through(points: &[(Duration, f64)]) -> Self {
        let count = points.len().max(1) as f64;
        let mean = |of: fn(&(Duration, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (mean_x, mean_y) = (mean(|it| it.0.as_secs_f64()), mean(|it| it.1));
        let deviations = || points.iter().map(|it| (it.0.as_secs_f64() - mean_x, it.1 - mean_y));
        let covariance: f64 = deviations().map(|(x, y)| x * y).sum();
        let variance: f64 = deviations().map(|(x, _)| x.powi(2)).sum();
        let per_second = if variance > 0.0 { covariance / variance } else { 0.0 };
        Self {
            start: mean_y - per_second * mean_x,
            per_second,
        }
    }

    fn at(&self, time: Duration) -> f64 {
        self.start + self.per_second * time.as_secs_f64()
    }
}
