//! The fixture of a scenario: its engine, the rate of its load, and the settings of gateway and worker.

use std::{collections::BTreeMap, time::Duration};

use e2e::{
    engine::Engine,
    fixture::Fixture,
    process::{Process, Setup},
    wait::{WAIT_LIMIT, until},
};
use parking_lot::Mutex;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::traffic::capacity;

/// The `REPLY_TIMEOUT` of the gateway.
pub(crate) const REPLY_TIMEOUT: Duration = Duration::from_secs(2);
/// The `MAX_IN_FLIGHT` of the gateway.
pub(crate) const MAX_IN_FLIGHT: i64 = 1_024;
/// The `DRAIN_TIMEOUT` of both.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The highest rate, in requests per second: generator, gateway, worker and three Kafka nodes share two cores. At this rate
/// a pause of 256 ms reaches `MAX_IN_FLIGHT`; at three times the rate, one of 85 ms.
const MAX_RATE: f64 = 4_000.0;

/// Additional connections to Kafka under load: of the producers, and one for metadata each.
const KAFKA_CONNECTIONS: usize = 8;

/// The engine of a scenario and its measured capacity.
#[derive(Debug)]
pub(crate) struct Fault<'a> {
    pub(crate) engine: &'a Engine,
    /// Requests per second by engine and number of nodes.
    capacities: &'a Mutex<BTreeMap<String, f64>>,
}

/// A gateway and a worker.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) gateway: Process,
    pub(crate) worker: Process,
}

/// The settings of all scenarios.
pub(crate) trait Common {
    /// Adds the settings.
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

// === impl Fault ===

impl<'a> Fault<'a> {
    pub(crate) fn new(engine: &'a Engine, capacities: &'a Mutex<BTreeMap<String, f64>>) -> Self {
        Self { engine, capacities }
    }

    /// Half of the capacity of the engine with this number of nodes, in requests per second. The first call measures it.
    pub(crate) async fn rate(&self, nodes: u32, gateway: &Process) -> f64 {
        if let Some(capacity) = self.capacity(nodes) {
            return rate_of(capacity);
        }
        let before = gateway.footprint().descriptors;
        let capacity = capacity(gateway.http()).await.floor();
        until_closed(gateway, before).await;
        self.capacities.lock().insert(self.key(nodes), capacity);
        rate_of(capacity)
    }

    /// The rate and the measured capacity: `4000/s of 21300/s`.
    pub(crate) fn load(&self, nodes: u32) -> String {
        let capacity = self.capacity(nodes).unwrap_or_default();
        format!("{}/s of {capacity}/s", rate_of(capacity))
    }

    fn capacity(&self, nodes: u32) -> Option<f64> {
        self.capacities.lock().get(&self.key(nodes)).copied()
    }

    fn key(&self, nodes: u32) -> String {
        format!("{} × {nodes}", self.engine.name())
    }
}

/// Waits until the clients of a load have closed their connections. Connections to Kafka may remain.
pub(crate) async fn until_closed(gateway: &Process, descriptors_before: usize) {
    until("the connections of the load are closed", WAIT_LIMIT, async || {
        (gateway.footprint().descriptors <= descriptors_before + KAFKA_CONNECTIONS).then_some(())
    })
    .await;
}

fn rate_of(capacity: f64) -> f64 {
    (capacity / 2.0).min(MAX_RATE).floor()
}

// === impl Pair ===

impl Pair {
    /// Starts both with the common settings and waits until they are ready.
    pub(crate) async fn ready(fixture: &Fixture) -> Self {
        let (gateway, worker) = tokio::join!(
            fixture.gateway().common().ready(),
            fixture.worker().set("DRAIN_TIMEOUT", "5s").ready()
        );
        Self { gateway, worker }
    }

    /// Waits until both are ready again.
    pub(crate) async fn until_ready(&self) {
        tokio::join!(self.gateway.until_ready(), self.worker.until_ready());
    }

    /// Both processes.
    pub(crate) fn processes(&self) -> [&Process; 2] {
        [&self.gateway, &self.worker]
    }
}

/// The sum of the series in `/metrics` that begin with `prefix`.
pub(crate) async fn sum(process: &Process, prefix: &str) -> i64 {
    sum_in(&process.page("/metrics").await.1, prefix)
}

/// The records that the gateway has counted as replies of any kind, without heartbeats.
pub(crate) async fn replies(gateway: &Process) -> i64 {
    // One page: a heartbeat may arrive between two.
    let (_, page) = gateway.page("/metrics").await;
    let of = |kind: &str| sum_in(&page, &format!("gateway_replies_total{{kind=\"{kind}"));
    of("") - of("announcement")
}

fn sum_in(page: &str, prefix: &str) -> i64 {
    let lines = page.lines().filter(|line| line.starts_with(prefix));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<i64>().ok())
        .sum()
}

/// Checks until a value is right or the time is over, and returns the last value.
pub(crate) async fn seen_within<T>(limit: Duration, check: impl AsyncFn() -> T, is_right: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + limit;
    loop {
        let seen = check().await;
        if is_right(&seen) || Instant::now() >= deadline {
            return seen;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Waits up to 10 s until the count is reached, and returns the last count.
pub(crate) async fn counted_up_to(expected: i64, check: impl AsyncFn() -> i64) -> i64 {
    seen_within(Duration::from_secs(10), check, |seen| *seen >= expected).await
}

/// Waits until the ports of all brokers are open, and returns the time.
pub(crate) async fn opened(brokers: &str) -> Instant {
    for broker in brokers.split(',') {
        while TcpStream::connect(broker).await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    }
    Instant::now()
}
