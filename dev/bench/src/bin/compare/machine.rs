//! What the run took place on.

use std::process::Command;

use procfs::{CpuInfo, Current, LoadAverage, Meminfo};
use serde_json::{Value, json};

/// The machine and the versions, and how busy others kept it before the run.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
    pub(crate) rustc: String,
    pub(crate) commit: String,
    pub(crate) began: String,
    /// Of the minute before the run.
    pub(crate) load_before: f32,
}

// === impl Machine ===

impl Machine {
    pub(crate) fn look() -> Self {
        let unknown = || "unknown".to_owned();
        let cpus = CpuInfo::current().ok();
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
        Self {
            cpu: cpus
                .as_ref()
                .and_then(|it| it.model_name(0))
                .map_or_else(unknown, str::to_owned),
            cores: cpus.map_or(0, |it| it.num_cores()),
            memory_bytes: Meminfo::current().map_or(0, |it| it.mem_total),
            kernel: release.map_or_else(|_| unknown(), |it| it.trim().to_owned()),
            rustc: said("rustc", &["--version"]),
            commit: said("git", &["describe", "--always", "--dirty"]),
            began: chrono::Utc::now().format("%Y-%m-%d %H:%M UTC").to_string(),
            load_before: LoadAverage::current().map_or(0.0, |it| it.one),
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "cpu": self.cpu,
            "cores": self.cores,
            "memory_bytes": self.memory_bytes,
            "kernel": self.kernel,
            "rustc": self.rustc,
            "kafka": crate::engine::kafka_version(),
            "commit": self.commit,
            "began": self.began,
            "load_before": self.load_before,
        })
    }
}

fn said(program: &str, args: &[&str]) -> String {
    let ran = Command::new(program)
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    match ran {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}
