//! A long run of everything at once.

use std::{net::SocketAddr, time::Duration};

use bench::{Fate, Load, Question};
use e2e::{
    environment::Environment,
    http::{Connection, get},
    scene::Scene,
};
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    stage::{Pair, Stage},
    traffic::{Record, Traffic, open_loop},
    verdict::{Verdict, ms},
    watch::Watch,
};

/// From when on the memory is compared.
const WARM: Duration = Duration::from_secs(120);

const MINUTE: Duration = Duration::from_secs(60);

/// How long a new pair has the same load beside the old one, at the end; and how much of that it has to warm up.
const BESIDE: Duration = Duration::from_secs(130);
const WARM_BESIDE: Duration = Duration::from_secs(10);

/// Of the small requests. On demand whoever is slower would have more of them, and be slower for it.
const CONNECTIONS: usize = 256;

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

/// Callers of all sizes, and some who leave.
struct Mix {
    small: Traffic,
    medium: Traffic,
    large: Traffic,
    leaving: JoinHandle<()>,
}

// === impl Mix ===

impl Mix {
    /// On a gateway, so many small requests per second and some others.
    fn start(gateway: SocketAddr, rate: f64) -> Self {
        let sized = |rate, body_bytes| {
            Traffic::of(Load {
                question: Question::Post {
                    body_bytes: Some(body_bytes),
                },
                ..open_loop(gateway, rate)
            })
        };
        Self {
            small: Traffic::over(gateway, rate, CONNECTIONS),
            medium: sized(100.0, 4_000),
            large: sized(20.0, 40_000),
            leaving: tokio::spawn(leave_again_and_again(gateway, 100)),
        }
    }

    /// Ends it; gives the small ones.
    async fn finish(self, verdict: &mut Verdict) -> Record {
        self.leaving.abort();
        let small = self.small.finish().await;
        let others = [self.medium.finish().await, self.large.finish().await];
        for record in [&small].into_iter().chain(&others) {
            record.judge_answers(verdict);
            record.all().judge_share(verdict, "all", 0.9999);
        }
        small
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
    let begun = Instant::now();
    let mix = Mix::start(pair.gateway.http(), rate);
    let mut samples = Vec::new();
    let mut sample = async |until: Instant| {
        let mut ticks = interval(SAMPLE);
        while Instant::now() < until {
            ticks.tick().await;
            let memory = pair.processes().map(|it| it.footprint().memory_bytes);
            samples.push((begun.elapsed(), memory));
        }
    };
    let ended = begun + length;
    let alone = ended - BESIDE.min(length / 3);
    sample(alone).await;
    let small = mix.finish(&mut verdict).await;
    // Both from new generators: what those have kept of the requests so far makes them slower, too.
    let new = Pair::ready(&Scene::shared(stage.engine).await).await;
    let watch_new = Watch::of(&new.processes());
    let [beside_old, beside_new] = [&pair, &new].map(|it| Mix::start(it.gateway.http(), rate));
    let compared = Instant::now() + WARM_BESIDE;
    sample(ended).await;
    verdict.note(format!(
        "{:.0} min of {rate}/s small, 100/s of 4 kB, 20/s of 40 kB, 100/s leaving",
        length.as_secs_f64() / 60.0
    ));
    let (beside_old, beside_new) = (
        beside_old.finish(&mut verdict).await,
        beside_new.finish(&mut verdict).await,
    );
    samples.retain(|it| it.0 >= warm);
    for (index, process) in pair.processes().iter().enumerate() {
        let points: Vec<_> = samples.iter().map(|it| (it.0, it.1[index] as f64)).collect();
        let slope = slope_per_second(&points) * 60.0 / f64::from(1 << 20);
        verdict.judge(slope < 1.0, format!("{}: {slope:.2} MiB/min", process.name()));
    }
    let p99 = |record: &Record, from, to| record.due(from, to).latency(0.99, |it| it == Fate::Ok);
    let minutes =
        std::iter::successors(Some(begun + warm), |it| Some(*it + MINUTE)).take_while(|it| *it + MINUTE <= alone);
    let by_minute: Vec<_> = minutes.map(|it| ms(p99(&small, it, it + MINUTE))).collect();
    verdict.note(format!("p99 by the minute: {}", by_minute.join(", ")));
    // One minute of the machine and another are further apart than the criterion.
    let [old, new] = [&beside_old, &beside_new].map(|it| p99(it, compared, ended));
    let ratio = old.as_secs_f64() / new.as_secs_f64();
    verdict.judge(
        ratio < 1.2,
        format!("p99 {}, of a new pair beside it {} ({ratio:.2} ×)", ms(old), ms(new)),
    );
    watch.judge(&mut verdict).await;
    watch_new.judge(&mut verdict).await;
    verdict
}

/// Of the line with the least squares.
fn slope_per_second(points: &[(Duration, f64)]) -> f64 {
    let count = points.len().max(1) as f64;
    let mean = |of: fn(&(Duration, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|it| it.0.as_secs_f64()), mean(|it| it.1));
    let deviations = || points.iter().map(|it| (it.0.as_secs_f64() - mean_x, it.1 - mean_y));
    let covariance: f64 = deviations().map(|(x, y)| x * y).sum();
    let variance: f64 = deviations().map(|(x, _)| x.powi(2)).sum();
    if variance > 0.0 { covariance / variance } else { 0.0 }
}
