//! Where a scenario plays: the engine, the setting, and what has to hold in all of them.

use std::{collections::BTreeMap, time::Duration};

use e2e::{
    engine::Engine,
    footprint::Footprint,
    process::{Process, Setup},
    scene::Scene,
    wait::{SOON, until},
};
use parking_lot::Mutex;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::{
    traffic::capacity,
    verdict::{Verdict, mib, ms},
};

/// How long a caller waits for the reply.
pub(crate) const REPLY_TIMEOUT: Duration = Duration::from_secs(2);
/// Callers that may wait.
pub(crate) const MAX_IN_FLIGHT: i64 = 1_024;
/// What a shutdown may take.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The most that is asked per second: generator, gateway, worker and three Kafka nodes share two cores. A pause of this
/// machine must not be an overload, either: at this rate the callers of 256 ms fill the places, at three times as much those
/// of 85 ms.
const MAX_RATE: f64 = 4_000.0;

/// The bound on what is to hold at once: nothing pending, descriptors given back.
const AT_ONCE: Duration = Duration::from_secs(1);

/// By how many descriptors a process may differ: lanes to Kafka come and go.
const DESCRIPTORS: usize = 5;

/// More connections to Kafka than after the start, under load: lanes, and one for the metadata of each.
const CONNECTIONS_TO_KAFKA: usize = 8;

/// By how much the memory may grow where a tenth of it is less: the allocator's own steps.
const MEMORY_FLOOR_BYTES: u64 = 2 << 20;

/// The engine, and the load that it is given.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) engine: &'a Engine,
    /// By engine and nodes.
    capacities: &'a Mutex<BTreeMap<String, f64>>,
}

/// A gateway and a worker.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) gateway: Process,
    pub(crate) worker: Process,
}

/// Processes as they were before something happened to them.
#[derive(Debug)]
pub(crate) struct Before(Vec<Footprint>);

/// The setting of all scenarios.
pub(crate) trait Common {
    /// With it.
    #[must_use]
    fn common(self) -> Self;
}

impl Common for Setup {
    fn common(self) -> Self {
        self.set("REPLY_TIMEOUT", "2s")
            .set("MAX_IN_FLIGHT", MAX_IN_FLIGHT.to_string())
            .set("MAX_BODY", "64KiB")
            .set("DRAIN_TIMEOUT", "5s")
    }
}

// === impl Stage ===

impl<'a> Stage<'a> {
    pub(crate) fn new(engine: &'a Engine, capacities: &'a Mutex<BTreeMap<String, f64>>) -> Self {
        Self { engine, capacities }
    }

    /// Half of what the engine with so many nodes can do, measured once with this gateway, in requests per second.
    pub(crate) async fn rate(&self, nodes: u32, gateway: &Process) -> f64 {
        if let Some(capacity) = self.capacity(nodes) {
            return rate_of(capacity);
        }
        let before = gateway.footprint().descriptors;
        let capacity = capacity(gateway.http()).await.floor();
        // Its callers are gone; more connections to Kafka may be left.
        until("the connections of the measured are closed", SOON, async || {
            (gateway.footprint().descriptors <= before + CONNECTIONS_TO_KAFKA).then_some(())
        })
        .await;
        self.capacities.lock().insert(self.key(nodes), capacity);
        rate_of(capacity)
    }

    /// The rate once it is known, and what it is taken from: `4000/s of 21300/s`.
    pub(crate) fn load(&self, nodes: u32) -> String {
        let capacity = self.capacity(nodes).unwrap_or_default();
        format!("{}/s of {capacity}/s", rate_of(capacity))
    }

    fn capacity(&self, nodes: u32) -> Option<f64> {
        self.capacities.lock().get(&self.key(nodes)).copied()
    }

    fn key(&self, nodes: u32) -> String {
        format!("capacity of {} × {nodes}", self.engine.name())
    }
}

fn rate_of(capacity: f64) -> f64 {
    (capacity / 2.0).min(MAX_RATE).floor()
}

// === impl Pair ===

impl Pair {
    /// Both ready, with the common setting.
    pub(crate) async fn ready(scene: &Scene) -> Self {
        let (gateway, worker) = tokio::join!(
            scene.gateway().common().ready(),
            scene.worker().set("DRAIN_TIMEOUT", "5s").ready()
        );
        Self { gateway, worker }
    }

    /// Until both are ready again.
    pub(crate) async fn until_ready(&self) {
        tokio::join!(self.gateway.until_ready(), self.worker.until_ready());
    }

    /// How they are now.
    pub(crate) fn before(&self) -> Before {
        Before::of(&[&self.gateway, &self.worker])
    }

    /// What has to hold after every scenario.
    pub(crate) async fn judge(&mut self, before: &Before, verdict: &mut Verdict) {
        no_caller_is_left(&self.gateway, verdict).await;
        before.judge(&mut [&mut self.gateway, &mut self.worker], verdict).await;
    }

    /// Plays the same thing twice and compares the memory after each.
    pub(crate) async fn twice(&mut self, verdict: &mut Verdict, play: impl AsyncFn(&Self, &mut Verdict)) {
        let first = self.again(verdict, play).await;
        self.judge_memory(first, verdict);
    }

    /// Plays the same thing twice, and gives what each took after the first time.
    pub(crate) async fn again(&mut self, verdict: &mut Verdict, play: impl AsyncFn(&Self, &mut Verdict)) -> [u64; 2] {
        let before = self.before();
        let mut first = None;
        for _ in 0..2 {
            play(self, verdict).await;
            self.judge(&before, verdict).await;
            first.get_or_insert(self.memory());
        }
        first.unwrap_or_default()
    }

    /// What each takes now.
    pub(crate) fn memory(&self) -> [u64; 2] {
        [&self.gateway, &self.worker].map(|it| it.footprint().memory_bytes)
    }

    /// I6, for what has been repeated by now; it compares with what each took after the first time.
    pub(crate) fn judge_memory(&self, first: [u64; 2], verdict: &mut Verdict) {
        let last = self.memory();
        judge_memory("gateway", first[0], last[0], verdict);
        judge_memory("worker", first[1], last[1], verdict);
    }

    /// The same where nobody can say how it should compare: a process is as large as its largest crowd so far, and which of
    /// several outages brings that is chance.
    pub(crate) fn show_memory(&self, first: [u64; 2], verdict: &mut Verdict) {
        let last = self.memory();
        for (name, index) in [("gateway", 0), ("worker", 1)] {
            verdict.note(format!("{name}: {} → {}", mib(first[index]), mib(last[index])));
        }
    }
}

/// Plays the same thing twice with a gateway whose workers are not there all the time, as [`Pair::twice`] does with both.
pub(crate) async fn gateway_twice(
    gateway: &mut Process,
    verdict: &mut Verdict,
    mut play: impl AsyncFnMut(&Process, &mut Verdict),
) {
    let before = Before::of(&[gateway]);
    let mut first = None;
    for _ in 0..2 {
        play(gateway, verdict).await;
        no_caller_is_left(gateway, verdict).await;
        before.judge(&mut [gateway], verdict).await;
        first.get_or_insert(gateway.footprint().memory_bytes);
    }
    let last = gateway.footprint().memory_bytes;
    judge_memory("gateway", first.unwrap_or(last), last, verdict);
}

/// I6.
pub(crate) fn judge_memory(name: &str, first: u64, second: u64, verdict: &mut Verdict) {
    let bound = (first + first / 10).max(first + MEMORY_FLOOR_BYTES);
    let text = format!("I6 {name}: {} → {}", mib(first), mib(second));
    verdict.judge(second <= bound, text);
}

/// I3: nothing is pending one second after the last timeout. (The load has ended, so each timeout is over.)
pub(crate) async fn no_caller_is_left(gateway: &Process, verdict: &mut Verdict) {
    let deadline = Instant::now() + AT_ONCE;
    let mut pending = gateway.metric("gateway_in_flight").await;
    while pending != 0 && Instant::now() < deadline {
        sleep(Duration::from_millis(10)).await;
        pending = gateway.metric("gateway_in_flight").await;
    }
    verdict.invariant(pending == 0, format!("I3: {pending} pending"));
}

/// The sum of the values in `/metrics` whose names, with their labels, begin so.
pub(crate) async fn sum(process: &Process, prefix: &str) -> i64 {
    let (_, text) = process.page("/metrics").await;
    let lines = text.lines().filter(|it| it.starts_with(prefix));
    lines.filter_map(|it| it.rsplit(' ').next()?.parse::<i64>().ok()).sum()
}

/// Records that the gateway has counted as replies, whatever they found; the announcements of workers are none.
pub(crate) async fn replies(gateway: &Process) -> i64 {
    let of = async |kind: &str| sum(gateway, &format!("gateway_replies_total{{kind=\"{kind}")).await;
    of("").await - of("announcement").await
}

/// Waits until the ports of all brokers are open, and gives the instant.
pub(crate) async fn opened(brokers: &str) -> Instant {
    for broker in brokers.split(',') {
        while TcpStream::connect(broker).await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    }
    Instant::now()
}

// === impl Before ===

impl Before {
    pub(crate) fn of(processes: &[&Process]) -> Self {
        Self(processes.iter().map(|it| it.footprint()).collect())
    }

    /// The processes, in the same order, live (I4), have no panic in their logs, and their descriptors are back (I5).
    pub(crate) async fn judge(&self, processes: &mut [&mut Process], verdict: &mut Verdict) {
        for (process, before) in processes.iter_mut().zip(&self.0) {
            judge_log(process, verdict);
            let alive = process.is_running();
            verdict.invariant(alive, format!("I4: {} has ended", process.name()));
            if !alive {
                continue;
            }
            let deadline = Instant::now() + AT_ONCE;
            let mut now = process.footprint().descriptors;
            while now.abs_diff(before.descriptors) > DESCRIPTORS && Instant::now() < deadline {
                sleep(Duration::from_millis(10)).await;
                now = process.footprint().descriptors;
            }
            verdict.invariant(
                now.abs_diff(before.descriptors) <= DESCRIPTORS,
                format!(
                    "I5: {} has {now} descriptors after {}, {} before",
                    process.name(),
                    ms(AT_ONCE),
                    before.descriptors
                ),
            );
        }
    }
}

/// No panic in the log, which is kept for a failure.
pub(crate) fn judge_log(process: &Process, verdict: &mut Verdict) {
    let log = process.log();
    verdict.log(process.name(), &log);
    let panic = log.iter().find(|it| it.contains("panicked"));
    verdict.invariant(panic.is_none(), format!("I4: {}", panic.map_or("", |it| it)));
}
