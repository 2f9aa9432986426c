//! The invariants I3 to I6, which hold in every scenario.

use std::time::Duration;

use e2e::process::Process;

use crate::{
    fault::seen_within,
    verdict::{Verdict, mib, ms},
};

/// The bound on the time until nothing is in flight and the descriptors are closed.
const SETTLE_LIMIT: Duration = Duration::from_secs(1);

/// The tolerance for descriptors: up to three producer connections open and close, each with two descriptors.
const DESCRIPTORS: usize = 8;

/// The tolerance for memory where a tenth of it is less: the steps of the allocator.
const MEMORY_FLOOR_BYTES: u64 = 2 << 20;

/// The most rounds of a scenario whose memory grows.
const MAX_ROUNDS: usize = 4;

/// Processes that live through a scenario, and their resources before it.
#[derive(Debug)]
pub(crate) struct Watch<'a>(Vec<Watched<'a>>);

#[derive(Debug)]
struct Watched<'a> {
    process: &'a Process,
    descriptors_before: usize,
    /// Bytes, in the order of the samples.
    memory: Vec<u64>,
}

/// Runs a round twice, and judges the processes after each. If memory has grown, two more rounds tell a leak from chance: a
/// process keeps the memory of its largest load, and bounded lists fill up.
pub(crate) async fn twice(processes: &[&Process], verdict: &mut Verdict, mut round: impl AsyncFnMut(&mut Verdict)) {
    let mut watch = Watch::of(processes);
    for _ in 0..MAX_ROUNDS {
        round(verdict).await;
        watch.judge(verdict).await;
        watch.sample();
        if !watch.0.iter().any(Watched::grows) {
            break;
        }
    }
    watch.judge_memory(verdict);
}

/// I4: there is no panic in the log, which is kept if the scenario fails.
pub(crate) fn judge_log(process: &Process, verdict: &mut Verdict) {
    let log = process.log();
    verdict.log(process.name(), &log);
    let panic = log.iter().find(|line| line.contains("panicked"));
    verdict.invariant(panic.is_none(), format!("I4: {}", panic.map_or("", String::as_str)));
}

// === impl Watch ===

impl<'a> Watch<'a> {
    /// Takes the resources before the scenario.
    pub(crate) fn of(processes: &[&'a Process]) -> Self {
        let watched = |process: &&'a Process| Watched {
            process,
            descriptors_before: process.footprint().descriptors,
            memory: Vec::new(),
        };
        Self(processes.iter().map(watched).collect())
    }

    /// Samples the memory: after a round, or in the middle of a long fault.
    pub(crate) fn sample(&mut self) {
        for watched in &mut self.0 {
            watched.memory.push(watched.process.footprint().memory_bytes);
        }
    }

    /// I6: the memory did not grow from each sample to the next.
    pub(crate) fn judge_memory(&self, verdict: &mut Verdict) {
        for watched in &self.0 {
            let samples: Vec<_> = watched.memory.iter().copied().map(mib).collect();
            let text = format!("I6 {}: {}", watched.process.name(), samples.join(" → "));
            verdict.judge(!watched.grows(), text);
        }
    }

    /// I3 to I5, when the load has ended and all timeouts are over.
    pub(crate) async fn judge(&self, verdict: &mut Verdict) {
        for watched in &self.0 {
            judge_log(watched.process, verdict);
            let is_running = watched.process.is_running();
            verdict.invariant(is_running, format!("I4: {} has ended", watched.process.name()));
            if is_running {
                watched.judge_in_flight(verdict).await;
                watched.judge_descriptors(verdict).await;
            }
        }
    }
}

// === impl Watched ===

impl Watched<'_> {
    /// Whether every sample is larger than the one before. A single sample counts as growth.
    fn grows(&self) -> bool {
        let grew = |first: u64, second: u64| second > (first + first / 10).max(first + MEMORY_FLOOR_BYTES);
        self.memory.windows(2).all(|pair| grew(pair[0], pair[1]))
    }

    async fn judge_in_flight(&self, verdict: &mut Verdict) {
        if self.process.name() != "gateway" {
            return;
        }
        let in_flight = seen_within(
            SETTLE_LIMIT,
            async || self.process.metric("gateway_in_flight").await,
            |count| *count == 0,
        )
        .await;
        verdict.invariant(in_flight == 0, format!("I3: {in_flight} in flight"));
    }

    async fn judge_descriptors(&self, verdict: &mut Verdict) {
        let before = self.descriptors_before;
        let is_back = |now: &usize| now.abs_diff(before) <= DESCRIPTORS;
        let now = seen_within(SETTLE_LIMIT, async || self.process.footprint().descriptors, is_back).await;
        verdict.invariant(
            is_back(&now),
            format!(
                "I5: {} has {now} descriptors after {}, {before} before",
                self.process.name(),
                ms(SETTLE_LIMIT)
            ),
        );
    }
}
