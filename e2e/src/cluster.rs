//! A cluster of real Kafka nodes, through `scripts/kafka`.

use std::{
    path::{Path, PathBuf},
    process::{Command as BlockingCommand, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use tokio::process::Command;

use crate::environment::temporary;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/kafka");

/// Distinguishes the clusters of this process.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// Nodes on this machine, 1 is the first. They go with it.
#[derive(Debug)]
pub struct Cluster {
    dir: PathBuf,
    brokers: String,
}

// === impl Cluster ===

impl Cluster {
    /// Starts `nodes` nodes, each broker and controller, on free ports. `properties` are broker properties beside
    /// the script's own, `key=value`, separated by spaces.
    ///
    /// # Errors
    /// What the script says.
    pub async fn up(nodes: u32, properties: &str) -> Result<Self, String> {
        let name = format!(
            "pingpong-e2e-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        // It exists before the nodes do, so that whatever interrupts their start also stops them.
        let mut cluster = Self {
            dir: temporary().join(name),
            brokers: String::new(),
        };
        let said = script(&cluster.dir, &["up", &nodes.to_string()], properties).await?;
        said.trim().clone_into(&mut cluster.brokers);
        Ok(cluster)
    }

    /// The bootstrap list.
    #[must_use]
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// SIGKILL; returns when the node is gone.
    pub async fn kill(&self, node: u32) {
        self.act("kill", node).await;
    }

    /// SIGTERM, an orderly end; returns when the node is gone.
    pub async fn term(&self, node: u32) {
        self.act("term", node).await;
    }

    /// SIGSTOP.
    pub async fn pause(&self, node: u32) {
        self.act("pause", node).await;
    }

    /// SIGCONT.
    pub async fn resume(&self, node: u32) {
        self.act("resume", node).await;
    }

    /// Starts a stopped node again, with its ports and its data; returns when it answers.
    pub async fn start(&self, node: u32) {
        self.act("start", node).await;
    }

    /// Makes a node the leader of a partition; returns when it is.
    ///
    /// # Panics
    /// With what the script says when it fails.
    pub async fn lead(&self, topic: &str, partition: i32, node: u32) {
        let args = ["lead", topic, &partition.to_string(), &node.to_string()];
        if let Err(said) = script(&self.dir, &args, "").await {
            panic!("{said}");
        }
    }

    async fn act(&self, what: &str, node: u32) {
        if let Err(said) = script(&self.dir, &[what, &node.to_string()], "").await {
            panic!("{said}");
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A failure leaves it to the script's own watch over this process.
        let _ = BlockingCommand::new(SCRIPT)
            .arg("down")
            .env("KAFKA_DIR", &self.dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// Runs the script and gives its stdout. Its waits are bounded.
async fn script(dir: &Path, args: &[&str], properties: &str) -> Result<String, String> {
    let ended = Command::new(SCRIPT)
        .args(args)
        .env("KAFKA_DIR", dir)
        .env("KAFKA_OWNER_PID", std::process::id().to_string())
        .env("KAFKA_TIMEOUT", "120")
        .env_remove("KAFKA_PORT")
        .env("KAFKA_PROPERTIES", properties)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| format!("{SCRIPT} cannot be run: {error}"))?;
    if ended.status.success() {
        return Ok(String::from_utf8_lossy(&ended.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    Err(format!("scripts/kafka {} failed: {said}", args.join(" ")))
}
