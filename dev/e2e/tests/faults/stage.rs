//! Where a scenario plays: the engine, the load it is given, and the setting of gateway and worker.

use std::{collections::BTreeMap, time::Duration};

use e2e::{
    engine::Engine,
    process::{Process, Setup},
    scene::Scene,
    wait::{SOON, until},
};
use parking_lot::Mutex;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::traffic::capacity;

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

/// More connections to Kafka than after the start, under load: lanes, and one for the metadata of each.
const CONNECTIONS_TO_KAFKA: usize = 8;

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

    /// Both, to be watched.
    pub(crate) fn processes(&self) -> [&Process; 2] {
        [&self.gateway, &self.worker]
    }
}

/// The sum of the values in `/metrics` whose names, with their labels, begin so.
pub(crate) async fn sum(process: &Process, prefix: &str) -> i64 {
    sum_in(&process.page("/metrics").await.1, prefix)
}

/// Records that the gateway has counted as replies, whatever they found; the announcements of workers are none.
pub(crate) async fn replies(gateway: &Process) -> i64 {
    // One look: an announcement may come between two.
    let (_, page) = gateway.page("/metrics").await;
    let of = |kind: &str| sum_in(&page, &format!("gateway_replies_total{{kind=\"{kind}"));
    of("") - of("announcement")
}

fn sum_in(page: &str, prefix: &str) -> i64 {
    let lines = page.lines().filter(|it| it.starts_with(prefix));
    lines.filter_map(|it| it.rsplit(' ').next()?.parse::<i64>().ok()).sum()
}

/// Looks again and again until something is as it should be, or the time is over; gives how it is then.
pub(crate) async fn seen_within<T>(limit: Duration, look: impl AsyncFn() -> T, is_right: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + limit;
    loop {
        let seen = look().await;
        if is_right(&seen) || Instant::now() >= deadline {
            return seen;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until so many are counted, and no more than a few seconds; gives how many are.
pub(crate) async fn counted_up_to(expected: i64, look: impl AsyncFn() -> i64) -> i64 {
    seen_within(Duration::from_secs(10), look, |seen| *seen >= expected).await
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
