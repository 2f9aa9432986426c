//! The machine, and the state it was in before the run.

use std::process::Command;

use procfs::{CpuInfo, Current, LoadAverage};
use serde::Serialize;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    commit: String,
    began: String,
    /// Of the minute before the run. Above 0.2 or so, other processes disturb the measurements.
    load_average: f32,
}

// === impl Machine ===

impl Machine {
    pub(crate) fn read() -> Self {
        let unknown = || "unknown".to_owned();
        let cpus = CpuInfo::current().ok();
        let model = cpus.as_ref().and_then(|cpus| cpus.model_name(0));
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease");
        Self {
            cpu: model.map_or_else(unknown, str::to_owned),
            cores: cpus.as_ref().map_or(0, CpuInfo::num_cores),
            kernel: kernel.map_or_else(|_| unknown(), |release| release.trim().to_owned()),
            commit: commit().unwrap_or_else(unknown),
            began: chrono::Utc::now().format("%Y-%m-%d %H:%M UTC").to_string(),
            load_average: LoadAverage::current().map_or(0.0, |load| load.one),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}, {} cores, Linux {}; commit {}; {}; load average before the run {:.2}",
            self.cpu, self.cores, self.kernel, self.commit, self.began, self.load_average
        )
    }
}

fn commit() -> Option<String> {
    let described = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&described.stdout).trim().to_owned())
}
