//! What has to hold in every scenario, whatever its own criterion is.

use std::time::Duration;

use e2e::process::Process;

use crate::{
    stage::seen_within,
    verdict::{Verdict, mib, ms},
};

/// The bound on what is to hold at once: nothing pending, descriptors given back.
const AT_ONCE: Duration = Duration::from_secs(1);

/// By how many descriptors a process may differ: lanes to Kafka come and go.
const DESCRIPTORS: usize = 5;

/// By how much the memory may grow where a tenth of it is less: the allocator's own steps.
const MEMORY_FLOOR_BYTES: u64 = 2 << 20;

/// How often a fault is played where the memory is larger after each time.
const MOST_TIMES: usize = 4;

/// Processes that live through a scenario.
#[derive(Debug)]
pub(crate) struct Watch<'a>(Vec<Watched<'a>>);

#[derive(Debug)]
struct Watched<'a> {
    process: &'a Process,
    descriptors_before: usize,
    /// Bytes, look by look.
    memory: Vec<u64>,
}

/// Plays something twice, and judges the processes after each time. If one of them has taken more after the second time, two
/// more tell a leak from chance: a process is as large as its largest crowd so far, and what has a bound fills up to it.
pub(crate) async fn twice(processes: &[&Process], verdict: &mut Verdict, mut play: impl AsyncFnMut(&mut Verdict)) {
    let mut watch = Watch::of(processes);
    for _ in 0..MOST_TIMES {
        play(verdict).await;
        watch.judge(verdict).await;
        watch.look();
        if !watch.0.iter().any(Watched::grows) {
            break;
        }
    }
    watch.judge_memory(verdict);
}

/// No panic in the log, which is kept for a failure.
pub(crate) fn judge_log(process: &Process, verdict: &mut Verdict) {
    let log = process.log();
    verdict.log(process.name(), &log);
    let panic = log.iter().find(|it| it.contains("panicked"));
    verdict.invariant(panic.is_none(), format!("I4: {}", panic.map_or("", |it| it)));
}

// === impl Watch ===

impl<'a> Watch<'a> {
    /// Of processes as they are before anything happens to them.
    pub(crate) fn of(processes: &[&'a Process]) -> Self {
        let watched = |process: &&'a Process| Watched {
            process,
            descriptors_before: process.footprint().descriptors,
            memory: Vec::new(),
        };
        Self(processes.iter().map(watched).collect())
    }

    /// Looks at the memory: after a fault, or in the middle of one that lasts.
    pub(crate) fn look(&mut self) {
        for it in &mut self.0 {
            it.memory.push(it.process.footprint().memory_bytes);
        }
    }

    /// I6: the memory did not grow from each look to the next.
    pub(crate) fn judge_memory(&self, verdict: &mut Verdict) {
        for it in &self.0 {
            let looks: Vec<_> = it.memory.iter().copied().map(mib).collect();
            let text = format!("I6 {}: {}", it.process.name(), looks.join(" → "));
            verdict.judge(!it.grows(), text);
        }
    }

    /// The load has ended, and all timeouts are over. I3: nothing is pending in a gateway a second later. I4: the processes
    /// live, and have no panic in their logs. I5: their descriptors are back.
    pub(crate) async fn judge(&self, verdict: &mut Verdict) {
        for it in &self.0 {
            judge_log(it.process, verdict);
            let alive = it.process.is_running();
            verdict.invariant(alive, format!("I4: {} has ended", it.process.name()));
            if alive {
                it.judge_pending(verdict).await;
                it.judge_descriptors(verdict).await;
            }
        }
    }
}

// === impl Watched ===

impl Watched<'_> {
    /// Whether the memory was larger at each look than at the one before; one look alone cannot say that it was not.
    fn grows(&self) -> bool {
        let grew = |first: u64, second: u64| second > (first + first / 10).max(first + MEMORY_FLOOR_BYTES);
        self.memory.windows(2).all(|it| grew(it[0], it[1]))
    }

    async fn judge_pending(&self, verdict: &mut Verdict) {
        if self.process.name() != "gateway" {
            return;
        }
        let pending = seen_within(
            AT_ONCE,
            async || self.process.metric("gateway_in_flight").await,
            |it| *it == 0,
        )
        .await;
        verdict.invariant(pending == 0, format!("I3: {pending} pending"));
    }

    async fn judge_descriptors(&self, verdict: &mut Verdict) {
        let before = self.descriptors_before;
        let is_back = |now: &usize| now.abs_diff(before) <= DESCRIPTORS;
        let now = seen_within(AT_ONCE, async || self.process.footprint().descriptors, is_back).await;
        verdict.invariant(
            is_back(&now),
            format!(
                "I5: {} has {now} descriptors after {}, {before} before",
                self.process.name(),
                ms(AT_ONCE)
            ),
        );
    }
}
