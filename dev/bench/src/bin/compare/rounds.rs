//! The alternating rounds.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use bench::{Load, Mode, Until};
use tokio::time::Instant;

use crate::{
    args::log,
    broker::Broker,
    report::Measurement,
    variant::{Running, Variant},
};

/// Load before each measurement: connections, buffers and the adaptive linger reach their steady state.
const WARMUP: Duration = Duration::from_millis(500);

/// Connections while the broker warms up.
const BROKER_WARMUP_CONNECTIONS: usize = 256;

/// Measures all variants round by round.
#[derive(Debug)]
pub(crate) struct Rounds<'a> {
    variants: &'a [Variant],
    connections: &'a [usize],
    measured: Duration,
    broker: &'a Broker,
    /// The directory of the logs.
    logs: &'a Path,
    measurements: Vec<Measurement>,
}

// === impl Rounds ===

impl<'a> Rounds<'a> {
    pub(crate) fn new(
        variants: &'a [Variant],
        connections: &'a [usize],
        measured: Duration,
        broker: &'a Broker,
        logs: &'a Path,
    ) -> Self {
        Self {
            variants,
            connections,
            measured,
            broker,
            logs,
            measurements: Vec::new(),
        }
    }

    /// Whatever was measured until now, also after an error or a cancelled `run`.
    pub(crate) fn into_measurements(self) -> Vec<Measurement> {
        self.measurements
    }

    pub(crate) async fn run(&mut self, rounds: usize) -> Result<()> {
        self.warm_up_broker().await?;
        for round in 1..=rounds {
            log(&format!("round {round} of {rounds}"));
            let running = self.start(self.variants, round).await?;
            for &connections in self.connections {
                for index in order(round, running.len()) {
                    let variant = running.get(index).context("a variant")?;
                    let measurement = self.measure(variant, round, connections).await?;
                    log(&format!("  {measurement}"));
                    self.measurements.push(measurement);
                }
            }
            self.stop(running).await?;
        }
        Ok(())
    }

    async fn warm_up_broker(&self) -> Result<()> {
        log("warming up the broker");
        let running = self.start(self.variants.get(..1).unwrap_or_default(), 0).await?;
        for variant in &running {
            let load = load(variant, BROKER_WARMUP_CONNECTIONS, Duration::ZERO, self.broker.warmup);
            load.run().await?;
        }
        self.stop(running).await
    }

    async fn start(&self, variants: &[Variant], round: usize) -> Result<Vec<Running>> {
        let mut running = Vec::new();
        for variant in variants {
            running.push(variant.start(round, self.broker, self.logs).await?);
        }
        Ok(running)
    }

    /// Kills the processes first: a gateway would create its topics anew.
    async fn stop(&self, running: Vec<Running>) -> Result<()> {
        let topics: Vec<_> = running.iter().flat_map(|variant| variant.topics.clone()).collect();
        drop(running);
        self.broker.delete_topics(&topics).await
    }

    async fn measure(&self, variant: &Running, round: usize, connections: usize) -> Result<Measurement> {
        let load = load(variant, connections, WARMUP, self.measured);
        let (report, cpu) = variant
            .cpu
            .measure(load.run(), |report| match report {
                Ok(report) => (report.began, report.elapsed),
                Err(_) => (Instant::now(), Duration::ZERO),
            })
            .await?;
        let report = report?;
        ensure!(report.wrong_total() == 0, "{}: WRONG ANSWERS\n{report}", variant.name);
        Ok(Measurement::new(&variant.name, round, connections, &report, &cpu))
    }
}

fn load(variant: &Running, connections: usize, warmup: Duration, measured: Duration) -> Load {
    Load {
        request: variant.requests.kind(),
        warmup,
        until: Until::Elapsed(measured),
        ..Load::new(variant.http, Mode::Closed { connections })
    }
}

/// Each variant is first in turn, since the one before leaves its mark on the machine.
fn order(round: usize, variants: usize) -> impl Iterator<Item = usize> {
    (0..variants).map(move |index| (index + round) % variants)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_two_variants_alternates() {
        let orders: Vec<Vec<_>> = (1..=3).map(|round| order(round, 2).collect()).collect();
        assert_eq!(orders, [[1, 0], [0, 1], [1, 0]]);
    }
}
