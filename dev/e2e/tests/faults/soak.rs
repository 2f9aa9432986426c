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
    time::{Instant, MissedTickBehavior, interval, sleep_until},
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

/// How long a new pair has the same load beside the old one, at the end, and in how many rounds. Each has new generators,
/// and the other pair's begin first: two loads of one rate keep their distance in time, and one of them profits by it.
const BESIDE: Duration = Duration::from_secs(130);
const ROUNDS: u32 = 9;

/// Of a round, its part that warms up.
const WARM_SHARE: f64 = 0.2;

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
    /// So many small requests per second, and some others.
    fn start(pair: &Pair, rate: f64) -> Self {
        let gateway = pair.gateway.http();
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

    /// Ends it, with an answer for everybody; gives the small ones.
    async fn finish(self, verdict: &mut Verdict) -> Record {
        self.leaving.abort();
        let small = self.small.finish().await;
        let others = [self.medium.finish().await, self.large.finish().await];
        for record in [&small].into_iter().chain(&others) {
            record.judge_answers(verdict);
            let all = record.all();
            verdict.invariant(all.ok_share() >= 0.9999, all.summary());
        }
        small
    }
}

pub(crate) async fn mixed(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let pair = Pair::ready(&Scene::shared(stage.engine).await).await;
    let rate = stage.rate(1, &pair.gateway).await / 2.0;
    let length = Environment::read().soak;
    verdict.note(format!(
        "{:.0} min of {rate}/s small, 100/s of 4 kB, 20/s of 40 kB, 100/s leaving",
        length.as_secs_f64() / 60.0
    ));
    // Without two minutes to warm up there is nothing to compare.
    let warm = WARM.min(length / 3);
    let beside = BESIDE.min(length / 3);
    let watch = Watch::of(&pair.processes());
    let loads = async {
        play_alone(&pair, rate, warm, length - beside, &mut verdict).await;
        play_beside_a_new_one(stage, &pair, rate, beside, &mut verdict).await;
    };
    let ((), memory) = tokio::join!(loads, memory_over(&pair, length));
    for (index, process) in pair.processes().iter().enumerate() {
        let warm = memory.iter().filter(|it| it.0 >= warm);
        let points: Vec<_> = warm.map(|it| (it.0, it.1[index] as f64)).collect();
        let slope = slope_per_second(&points) * 60.0 / f64::from(1 << 20);
        verdict.judge(slope < 1.0, format!("{}: {slope:.2} MiB/min", process.name()));
    }
    watch.judge(&mut verdict).await;
    verdict
}

/// The p99 by the minute, as a note.
async fn play_alone(pair: &Pair, rate: f64, warm: Duration, length: Duration, verdict: &mut Verdict) {
    let begun = Instant::now();
    let mix = Mix::start(pair, rate);
    sleep_until(begun + length).await;
    let small = mix.finish(verdict).await;
    small.all().judge_share(verdict, "small", 0.9999);
    let minutes = std::iter::successors(Some(begun + warm), |it| Some(*it + MINUTE));
    let whole = minutes.take_while(|it| *it + MINUTE <= begun + length);
    let by_minute: Vec<_> = whole.map(|it| ms(p99(&small, it, it + MINUTE))).collect();
    verdict.note(format!("p99 by the minute: {}", by_minute.join(", ")));
}

/// Judges the p99 by that of a new pair: one minute of the machine and another are further apart than the criterion.
async fn play_beside_a_new_one(stage: &Stage<'_>, old: &Pair, rate: f64, length: Duration, verdict: &mut Verdict) {
    let new = Pair::ready(&Scene::shared(stage.engine).await).await;
    let watch = Watch::of(&new.processes());
    let mut rounds = Vec::new();
    for number in 0..ROUNDS {
        let begun = Instant::now();
        let ended = begun + length / ROUNDS;
        let [old, new] = if number.is_multiple_of(2) {
            [old, &new].map(|it| Mix::start(it, rate))
        } else {
            let [new, old] = [&new, old].map(|it| Mix::start(it, rate));
            [old, new]
        };
        sleep_until(ended).await;
        let compared = begun + (length / ROUNDS).mul_f64(WARM_SHARE);
        let [old, new] = [old.finish(verdict).await, new.finish(verdict).await].map(|it| p99(&it, compared, ended));
        rounds.push((old.as_secs_f64() / new.as_secs_f64(), old, new));
    }
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let all: Vec<_> = rounds
        .iter()
        .map(|(ratio, old, new)| format!("{} to {} ({ratio:.2} ×)", ms(*old), ms(*new)))
        .collect();
    let median = rounds[rounds.len() / 2].0;
    verdict.judge(
        median < 1.2,
        format!(
            "p99 to that of a new pair beside it: {median:.2} ×; by the round: {}",
            all.join(", ")
        ),
    );
    watch.judge(verdict).await;
}

/// Bytes of gateway and worker, and after which time.
async fn memory_over(pair: &Pair, length: Duration) -> Vec<(Duration, [u64; 2])> {
    let begun = Instant::now();
    let mut ticks = interval(SAMPLE);
    let mut samples = Vec::new();
    while begun.elapsed() < length {
        ticks.tick().await;
        let memory = pair.processes().map(|it| it.footprint().memory_bytes);
        samples.push((begun.elapsed(), memory));
    }
    samples
}

fn p99(record: &Record, from: Instant, to: Instant) -> Duration {
    record.due(from, to).latency(0.99, |it| it == Fate::Ok)
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
