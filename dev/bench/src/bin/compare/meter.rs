//! CPU time and memory of processes, from `/proc`, while a load is on them.
//!
//! CPU time is that of all threads in nanoseconds (`schedstat`): the ticks of `stat` are 10 ms, one percent of a round.
//! A thread that ends takes its time with it; ours live as long as their process.

use std::{collections::BTreeMap, fs, future::Future, time::Duration};

use anyhow::{Context, Result};
use procfs::process::Process;
use tokio::time::{Instant, sleep};

/// Between two looks. The time between is interpolated.
const INTERVAL: Duration = Duration::from_millis(50);

/// Writing it to `clear_refs` sets the peak back to what is resident now (proc(5)).
const RESET_PEAK: &str = "5";

/// What a process is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Role {
    Gateway,
    Worker,
    Broker,
    /// What answers by itself: hyper alone, or a command and all that it started.
    Server,
    Generator,
}

/// The processes of a variant.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    processes: Vec<(Role, Process)>,
}

/// What the processes of one role took in the measured part of a load.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) cpu: Duration,
    /// Resident towards the end of it, in bytes.
    pub(crate) resident: u64,
    /// Resident at most, in bytes.
    pub(crate) peak: u64,
}

/// CPU time so far and resident bytes, by process.
type Look = (Instant, Vec<(Duration, u64)>);

// === impl Role ===

impl Role {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Worker => "worker",
            Self::Broker => "broker",
            Self::Server => "server",
            Self::Generator => "generator",
        }
    }
}

// === impl Meter ===

impl Meter {
    /// Watches this process, which generates the load.
    pub(crate) fn new() -> Result<Self> {
        let mut meter = Self::default();
        meter.processes.push((Role::Generator, Process::myself()?));
        Ok(meter)
    }

    pub(crate) fn add(&mut self, role: Role, pid: i32) -> Result<()> {
        self.processes.push((role, Process::new(pid)?));
        Ok(())
    }

    /// Watches all processes of a group.
    pub(crate) fn add_group(&mut self, role: Role, group: i32) -> Result<()> {
        let all = procfs::process::all_processes()?;
        self.processes.extend(
            all.flatten()
                .filter(|it| it.stat().is_ok_and(|it| it.pgrp == group))
                .map(|it| (role, it)),
        );
        Ok(())
    }

    /// What is resident now in the processes of a role, in bytes.
    pub(crate) fn resident(&self, role: Role) -> u64 {
        let of_role = self.processes.iter().filter(|(it, _)| *it == role);
        of_role.map(|(_, it)| memory(it).0).sum()
    }

    /// Watches while `load` runs; `measured` finds in what it gives when the measured part began, and its length.
    pub(crate) async fn watch<T>(
        &self,
        load: impl Future<Output = T>,
        measured: impl FnOnce(&T) -> (Instant, Duration),
    ) -> Result<(T, BTreeMap<Role, Cost>)> {
        for (_, process) in &self.processes {
            // Where it may not be written the peak is that of the process's life.
            let _ = fs::write(format!("/proc/{}/clear_refs", process.pid()), RESET_PEAK);
        }
        let mut looks = vec![self.look()];
        let looking = async {
            loop {
                sleep(INTERVAL).await;
                looks.push(self.look());
            }
        };
        let done = tokio::select! {
            done = load => done,
            never = looking => never,
        };
        looks.push(self.look());
        let (begin, length) = measured(&done);
        let before = at(&looks, begin).context("the load was not watched")?;
        let after = at(&looks, begin + length).context("the load was not watched")?;
        let mut costs = BTreeMap::<_, Cost>::new();
        for (((role, process), before), after) in self.processes.iter().zip(before).zip(after) {
            let cost = costs.entry(*role).or_default();
            cost.cpu += after.0.saturating_sub(before.0);
            cost.resident += after.1;
            // The kernel's counters are not exact: what was resident has been the peak.
            cost.peak += memory(process).1.max(after.1);
        }
        Ok((done, costs))
    }

    fn look(&self) -> Look {
        let processes = self.processes.iter();
        (
            Instant::now(),
            processes.map(|(_, it)| (cpu(it), memory(it).0)).collect(),
        )
    }
}

/// CPU time by interpolation between the looks before and after, memory as of the look before.
fn at(looks: &[Look], instant: Instant) -> Option<Vec<(Duration, u64)>> {
    let next = looks
        .partition_point(|(when, _)| *when < instant)
        .clamp(1, looks.len() - 1);
    let (from, before) = looks.get(next - 1)?;
    let (to, after) = looks.get(next)?;
    let share = instant.saturating_duration_since(*from).as_secs_f64() / (*to - *from).as_secs_f64().max(1e-9);
    let share = share.min(1.0);
    let both = before.iter().zip(after);
    let between = both.map(|(before, after)| (before.0 + after.0.saturating_sub(before.0).mul_f64(share), before.1));
    Some(between.collect())
}

/// Zero for a process that is gone.
fn cpu(process: &Process) -> Duration {
    let Ok(tasks) = process.tasks() else {
        return Duration::ZERO;
    };
    let times = tasks.flatten().filter_map(|it| it.schedstat().ok());
    Duration::from_nanos(times.map(|it| it.sum_exec_runtime).sum())
}

/// Resident now and at most, in bytes.
fn memory(process: &Process) -> (u64, u64) {
    let status = process.status().ok();
    let bytes = |kib: Option<u64>| kib.unwrap_or_default() * 1024;
    status.map_or((0, 0), |it| (bytes(it.vmrss), bytes(it.vmhwm)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_is_between_two_looks_is_interpolated() {
        let begin = Instant::now();
        let looks = [(begin, vec![(SECOND, 7)]), (begin + 4 * SECOND, vec![(3 * SECOND, 9)])];
        assert_eq!(at(&looks, begin + SECOND), Some(vec![(SECOND * 3 / 2, 7)]));
        assert_eq!(at(&looks, begin + 9 * SECOND), Some(vec![(3 * SECOND, 7)]));
    }

    #[tokio::test]
    async fn only_what_the_load_takes_is_counted() {
        let meter = Meter::new().unwrap();
        let burn = async {
            let begin = Instant::now();
            while cpu(&meter.processes[0].1) < 30 * SECOND / 1000 || begin.elapsed() < 60 * SECOND / 1000 {
                tokio::task::yield_now().await;
            }
            (begin, begin.elapsed())
        };
        let (_, costs) = meter.watch(burn, |it| *it).await.unwrap();
        let cost = costs[&Role::Generator];
        assert!(cost.cpu > Duration::ZERO, "{cost:?}");
        assert!(cost.peak >= cost.resident && cost.resident > 0, "{cost:?}");
    }
}
