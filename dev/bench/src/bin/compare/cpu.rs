//! CPU time of processes during a measurement, from `/proc`.
//!
//! The source is `schedstat` of all threads, in nanoseconds; the ticks of `stat` are 10 ms. The time of a thread that has
//! ended is lost, but the measured processes keep their threads.

use std::{collections::BTreeMap, future::Future, time::Duration};

use anyhow::{Context, Result};
use procfs::process::Process;
use tokio::time::{Instant, sleep};

/// Between two samples; CPU times between samples are interpolated.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(50);

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Gateway,
    Worker,
    /// All processes of a `--command`.
    Command,
    Broker,
}

/// The processes of a variant and its broker.
#[derive(Debug, Default)]
pub(crate) struct CpuMeter {
    processes: Vec<(Role, Process)>,
}

/// The CPU time of each process so far.
type Sample = (Instant, Vec<Duration>);

// === impl Role ===

impl Role {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Worker => "worker",
            Self::Command => "command",
            Self::Broker => "broker",
        }
    }
}

// === impl CpuMeter ===

impl CpuMeter {
    pub(crate) fn add_process_group(&mut self, role: Role, process_group: i32) -> Result<()> {
        let processes = procfs::process::all_processes()?.flatten();
        let members = processes.filter(|process| process.stat().is_ok_and(|stat| stat.pgrp == process_group));
        self.processes.extend(members.map(|process| (role, process)));
        Ok(())
    }

    /// Samples while `load` runs. `window` returns the beginning and the length of the part to account for.
    pub(crate) async fn measure<T>(
        &self,
        load: impl Future<Output = T>,
        window: impl FnOnce(&T) -> (Instant, Duration),
    ) -> Result<(T, BTreeMap<Role, Duration>)> {
        let mut samples = vec![self.sample()];
        let sampling = async {
            loop {
                sleep(SAMPLE_INTERVAL).await;
                samples.push(self.sample());
            }
        };
        let output = tokio::select! {
            output = load => output,
            never = sampling => never,
        };
        samples.push(self.sample());
        let (begin, length) = window(&output);
        let before = interpolate(&samples, begin).context("no CPU samples")?;
        let after = interpolate(&samples, begin + length).context("no CPU samples")?;
        let mut times = BTreeMap::<_, Duration>::new();
        for (((role, _), before), after) in self.processes.iter().zip(before).zip(after) {
            *times.entry(*role).or_default() += after.saturating_sub(before);
        }
        Ok((output, times))
    }

    fn sample(&self) -> Sample {
        let times = self.processes.iter().map(|(_, process)| cpu_time(process));
        (Instant::now(), times.collect())
    }
}

/// Linear between the samples before and after `instant`.
fn interpolate(samples: &[Sample], instant: Instant) -> Option<Vec<Duration>> {
    let next = samples.partition_point(|(taken, _)| *taken < instant);
    let next = next.clamp(1, samples.len().checked_sub(1)?);
    let (from, before) = samples.get(next - 1)?;
    let (to, after) = samples.get(next)?;
    let elapsed = instant.saturating_duration_since(*from).as_secs_f64();
    let share = (elapsed / (*to - *from).as_secs_f64().max(1e-9)).min(1.0);
    let times = before.iter().zip(after);
    Some(
        times
            .map(|(before, after)| *before + after.saturating_sub(*before).mul_f64(share))
            .collect(),
    )
}

/// Zero if the process has ended.
fn cpu_time(process: &Process) -> Duration {
    let Ok(threads) = process.tasks() else {
        return Duration::ZERO;
    };
    let times = threads.flatten().filter_map(|thread| thread.schedstat().ok());
    Duration::from_nanos(times.map(|schedstat| schedstat.sum_exec_runtime).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn cpu_time_is_interpolated_between_samples() {
        let begin = Instant::now();
        let samples = [(begin, vec![SECOND]), (begin + 4 * SECOND, vec![3 * SECOND])];
        assert_eq!(interpolate(&samples, begin + SECOND), Some(vec![SECOND * 3 / 2]));
        assert_eq!(interpolate(&samples, begin + 9 * SECOND), Some(vec![3 * SECOND]));
        assert_eq!(interpolate(&[], begin), None);
    }

    #[tokio::test]
    async fn cpu_time_of_this_process_is_measured() {
        let mut meter = CpuMeter::default();
        meter.processes.push((Role::Gateway, Process::myself().unwrap()));
        let burn = async {
            let begin = Instant::now();
            while begin.elapsed() < 2 * SAMPLE_INTERVAL {
                tokio::task::yield_now().await;
            }
            (begin, begin.elapsed())
        };
        let (_, times) = meter.measure(burn, |window| *window).await.unwrap();
        assert!(times[&Role::Gateway] > Duration::ZERO, "{times:?}");
    }
}
