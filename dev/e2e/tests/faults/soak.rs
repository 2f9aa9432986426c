//! A long run of mixed loads.

use std::{net::SocketAddr, time::Duration};

use bench::{Load, Outcome, RequestKind};
use e2e::{
    environment::Environment,
    fixture::Fixture,
    http::{Connection, get},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use crate::{
    fault::{Fault, Pair},
    invariants::Watch,
    traffic::{Record, Traffic, open_loop},
    verdict::{Verdict, ms},
};

/// The warm-up, without a comparison of memory.
const WARM: Duration = Duration::from_secs(120);

const MINUTE: Duration = Duration::from_secs(60);

/// The time with a new pair under the same load, at the end, and its rounds. Each round has new generators and starts them
/// in the other order: two loads of one rate keep their phase, which favours one of them.
const BESIDE: Duration = Duration::from_secs(130);
const ROUNDS: u32 = 9;

/// The share of a round that warms up.
const WARM_SHARE: f64 = 0.2;

/// Connections of the small requests, a fixed number: otherwise the slower pair would get more of them.
const CONNECTIONS: usize = 256;

/// The interval between two samples of the memory.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(2);

/// Sends requests at a rate and disconnects without the response.
async fn send_and_disconnect(addr: SocketAddr, per_second: u32) {
    let mut ticks = interval(Duration::from_secs(1) / per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        if let Ok(mut caller) = Connection::open(addr).await {
            // The disconnect follows in any case.
            let _ = caller.send(get("/ping")).await;
        }
    }
}

/// Loads of several sizes, and clients that disconnect.
struct Mix {
    small: Traffic,
    medium: Traffic,
    large: Traffic,
    disconnecting: JoinHandle<()>,
}

// === impl Mix ===

impl Mix {
    /// Starts the loads, with this rate of small requests.
    fn start(pair: &Pair, rate: f64) -> Self {
        let gateway = pair.gateway.http();
        let sized = |rate, body_bytes| {
            Traffic::of(Load {
                request: RequestKind::Post {
                    body_bytes: Some(body_bytes),
                },
                ..open_loop(gateway, rate)
            })
        };
        Self {
            small: Traffic::over(gateway, rate, CONNECTIONS),
            medium: sized(100.0, 4_000),
            large: sized(20.0, 40_000),
            disconnecting: tokio::spawn(send_and_disconnect(gateway, 100)),
        }
    }

    /// Ends the loads and returns the record of the small requests.
    async fn finish(self, verdict: &mut Verdict) -> Record {
        self.disconnecting.abort();
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

pub(crate) async fn mixed(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let pair = Pair::ready(&Fixture::shared(fault.engine).await).await;
    let rate = fault.rate(1, &pair.gateway).await / 2.0;
    let length = Environment::read().soak;
    verdict.note(format!(
        "{:.0} min of {rate}/s small, 100/s of 4 kB, 20/s of 40 kB, 100/s disconnecting",
        length.as_secs_f64() / 60.0
    ));
    // A short run has a shorter warm-up.
    let warm = WARM.min(length / 3);
    let beside = BESIDE.min(length / 3);
    let watch = Watch::of(&pair.processes());
    let loads = async {
        run_alone(&pair, rate, warm, length - beside, &mut verdict).await;
        run_beside_a_new_pair(fault, &pair, rate, beside, &mut verdict).await;
    };
    let ((), memory) = tokio::join!(loads, memory_over(&pair, length));
    for (index, process) in pair.processes().iter().enumerate() {
        let warm = memory.iter().filter(|sample| sample.0 >= warm);
        let points: Vec<_> = warm.map(|sample| (sample.0, sample.1[index] as f64)).collect();
        let slope = slope_per_second(&points) * 60.0 / f64::from(1 << 20);
        verdict.judge(slope < 1.0, format!("{}: {slope:.2} MiB/min", process.name()));
    }
    watch.judge(&mut verdict).await;
    verdict
}

/// Notes the p99 of every minute.
async fn run_alone(pair: &Pair, rate: f64, warm: Duration, length: Duration, verdict: &mut Verdict) {
    let begun = Instant::now();
    let mix = Mix::start(pair, rate);
    sleep_until(begun + length).await;
    let small = mix.finish(verdict).await;
    small.all().judge_share(verdict, "small", 0.9999);
    let minutes = std::iter::successors(Some(begun + warm), |minute| Some(*minute + MINUTE));
    let whole = minutes.take_while(|minute| *minute + MINUTE <= begun + length);
    let by_minute: Vec<_> = whole.map(|minute| ms(p99(&small, minute, minute + MINUTE))).collect();
    verdict.note(format!("p99 by the minute: {}", by_minute.join(", ")));
}

/// Compares the p99 with that of a new pair at the same time: two minutes of one machine differ by more than the criterion.
async fn run_beside_a_new_pair(fault: &Fault<'_>, old: &Pair, rate: f64, length: Duration, verdict: &mut Verdict) {
    let new = Pair::ready(&Fixture::shared(fault.engine).await).await;
    let watch = Watch::of(&new.processes());
    let mut rounds = Vec::new();
    for number in 0..ROUNDS {
        let begun = Instant::now();
        let ended = begun + length / ROUNDS;
        let [old, new] = if number.is_multiple_of(2) {
            [old, &new].map(|pair| Mix::start(pair, rate))
        } else {
            let [new, old] = [&new, old].map(|pair| Mix::start(pair, rate));
            [old, new]
        };
        sleep_until(ended).await;
        let compared = begun + (length / ROUNDS).mul_f64(WARM_SHARE);
        let [old, new] =
            [old.finish(verdict).await, new.finish(verdict).await].map(|record| p99(&record, compared, ended));
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

/// Samples of the memory of gateway and worker, with their times.
async fn memory_over(pair: &Pair, length: Duration) -> Vec<(Duration, [u64; 2])> {
    let begun = Instant::now();
    let mut ticks = interval(SAMPLE_INTERVAL);
    let mut samples = Vec::new();
    while begun.elapsed() < length {
        ticks.tick().await;
        let memory = pair.processes().map(|process| process.footprint().memory_bytes);
        samples.push((begun.elapsed(), memory));
    }
    samples
}

fn p99(record: &Record, from: Instant, to: Instant) -> Duration {
    record.due(from, to).latency(0.99, |outcome| outcome == Outcome::Ok)
}

/// The slope of the line with the least squares.
fn slope_per_second(points: &[(Duration, f64)]) -> f64 {
    let count = points.len().max(1) as f64;
    let mean = |of: fn(&(Duration, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|point| point.0.as_secs_f64()), mean(|point| point.1));
    let deviations = || {
        points
            .iter()
            .map(|point| (point.0.as_secs_f64() - mean_x, point.1 - mean_y))
    };
    let covariance: f64 = deviations().map(|(x, y)| x * y).sum();
    let variance: f64 = deviations().map(|(x, _)| x.powi(2)).sum();
    if variance > 0.0 { covariance / variance } else { 0.0 }
}
