//! Descriptors, memory and CPU time of a process, from `/proc`.

use std::{fs, time::Duration};

use rustix::{param::clock_ticks_per_second, process::Pid};

/// The resources of a running process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Open descriptors.
    pub descriptors: usize,
    /// Resident memory.
    pub memory_bytes: u64,
    /// Processor time since the start, user and system.
    pub cpu: Duration,
}

// === impl Footprint ===

impl Footprint {
    /// Reads the resources of a child process.
    ///
    /// # Panics
    /// When it has ended and been waited for.
    #[must_use]
    pub fn of(pid: Pid) -> Self {
        let dir = format!("/proc/{}", pid.as_raw_nonzero());
        let read = |name| fs::read_to_string(format!("{dir}/{name}")).expect("the process is there");
        Self {
            descriptors: fs::read_dir(format!("{dir}/fd")).expect("it is there").count(),
            memory_bytes: resident_bytes(&read("status")),
            cpu: cpu(&read("stat")),
        }
    }
}

/// 0 for a process that has ended and not been waited for.
fn resident_bytes(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Fields 14 and 15 of `proc_pid_stat(5)`; the second is a name in parentheses that may contain anything.
fn cpu(stat: &str) -> Duration {
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: u64 = after_name
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 1_000 / clock_ticks_per_second().max(1))
}
