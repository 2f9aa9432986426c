//! A cluster of nodes that a test can stop: real Kafka through `scripts/kafka`, or the built-in broker.

use std::{
    path::{Path, PathBuf},
    process::{Command as BlockingCommand, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use broker::Faults;
use tokio::process::Command;

use crate::{built_in::BuiltIn, environment::temporary};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/kafka");

/// Distinguishes the clusters of this process.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// Nodes on this machine, 1 is the first. They go with it.
#[derive(Debug)]
pub struct Cluster {
    nodes: Nodes,
    brokers: String,
}

/// What nodes do otherwise than `scripts/kafka.d/node.properties` says.
#[derive(Debug, Clone, Copy, Default)]
pub struct Habits {
    /// They close connections that are idle for so long.
    pub max_idle: Option<Duration>,
    /// A node may be silent for so long before its partitions are taken from it. (In the built-in broker it keeps them.)
    pub max_silence: Option<Duration>,
}

#[derive(Debug)]
enum Nodes {
    Kafka(Scripted),
    BuiltIn(BuiltIn),
}

/// The nodes whose state is in a directory of `scripts/kafka`.
#[derive(Debug)]
struct Scripted {
    dir: PathBuf,
}

// === impl Cluster ===

impl Cluster {
    /// Starts `nodes` nodes of Apache Kafka, each broker and controller, on free ports.
    ///
    /// # Errors
    /// What the script says.
    pub async fn kafka(nodes: u32, habits: Habits) -> Result<Self, String> {
        let name = format!(
            "pingpong-e2e-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        // It exists before the nodes do, so that whatever interrupts their start also stops them.
        let scripted = Scripted {
            dir: temporary().join(name),
        };
        let said = script(&scripted.dir, &["up", &nodes.to_string()], &habits.properties()).await?;
        Ok(Self {
            nodes: Nodes::Kafka(scripted),
            brokers: said.trim().to_owned(),
        })
    }

    /// Starts `nodes` nodes of the built-in broker, likewise.
    pub async fn built_in(nodes: u32, habits: Habits) -> Self {
        let (broker, brokers) = BuiltIn::up(nodes, habits.max_idle).await;
        Self {
            nodes: Nodes::BuiltIn(broker),
            brokers,
        }
    }

    /// The bootstrap list.
    #[must_use]
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// The faults that only the built-in broker can stage.
    #[must_use]
    pub fn faults(&self) -> Option<&Faults> {
        match &self.nodes {
            Nodes::Kafka(_) => None,
            Nodes::BuiltIn(broker) => Some(broker.faults()),
        }
    }

    /// SIGKILL; returns when the node is gone.
    pub async fn kill(&self, node: u32) {
        match &self.nodes {
            Nodes::Kafka(scripted) => scripted.act(&["kill", &node.to_string()]).await,
            Nodes::BuiltIn(broker) => broker.stop(node).await,
        }
    }

    /// SIGTERM, an orderly end; returns when the node is gone. (The built-in broker knows no other end than `kill`.)
    pub async fn term(&self, node: u32) {
        match &self.nodes {
            Nodes::Kafka(scripted) => scripted.act(&["term", &node.to_string()]).await,
            Nodes::BuiltIn(broker) => broker.stop(node).await,
        }
    }

    /// SIGSTOP of the only node.
    pub async fn pause(&self) {
        match &self.nodes {
            Nodes::Kafka(_) => self.pause_node(1).await,
            Nodes::BuiltIn(broker) => broker.pause(),
        }
    }

    /// SIGCONT of the only node.
    pub async fn resume(&self) {
        match &self.nodes {
            Nodes::Kafka(_) => self.resume_node(1).await,
            Nodes::BuiltIn(broker) => broker.resume(),
        }
    }

    /// SIGSTOP of one of several nodes.
    ///
    /// # Panics
    /// On the built-in broker, which stops as a whole.
    pub async fn pause_node(&self, node: u32) {
        match &self.nodes {
            Nodes::Kafka(scripted) => scripted.act(&["pause", &node.to_string()]).await,
            Nodes::BuiltIn(_) => panic!("the built-in broker stops as a whole"),
        }
    }

    /// SIGCONT of one of several nodes.
    ///
    /// # Panics
    /// On the built-in broker.
    pub async fn resume_node(&self, node: u32) {
        match &self.nodes {
            Nodes::Kafka(scripted) => scripted.act(&["resume", &node.to_string()]).await,
            Nodes::BuiltIn(_) => panic!("the built-in broker goes on as a whole"),
        }
    }

    /// Starts a stopped node again, with its ports and its data; returns when it answers.
    pub async fn start(&self, node: u32) {
        match &self.nodes {
            Nodes::Kafka(scripted) => scripted.act(&["start", &node.to_string()]).await,
            Nodes::BuiltIn(broker) => broker.start(node).await,
        }
    }

    /// Makes a node the leader of a partition; returns when it is.
    pub async fn lead(&self, topic: &str, partition: i32, node: u32) {
        match &self.nodes {
            Nodes::Kafka(scripted) => {
                let args = ["lead", topic, &partition.to_string(), &node.to_string()];
                scripted.act(&args).await;
            }
            Nodes::BuiltIn(broker) => broker.lead(topic, partition, node),
        }
    }
}

// === impl Habits ===

impl Habits {
    /// Those of a node that nobody kills. It keeps its partitions through every pause, and on a machine that is too busy for
    /// its heartbeats. Otherwise Kafka takes them from it for a moment once it goes on, when it may have answered already.
    pub const STEADY: Self = Self {
        max_idle: None,
        max_silence: Some(Duration::from_secs(60)),
    };

    /// As lines for Kafka.
    fn properties(self) -> String {
        let habits = [
            ("connections.max.idle.ms", self.max_idle),
            ("broker.session.timeout.ms", self.max_silence),
        ];
        let lines = habits
            .into_iter()
            .filter_map(|(key, limit)| Some(format!("{key}={}\n", limit?.as_millis())));
        lines.collect()
    }
}

// === impl Scripted ===

impl Scripted {
    /// Panics with what the script says when it fails.
    async fn act(&self, args: &[&str]) {
        if let Err(said) = script(&self.dir, args, "").await {
            panic!("{said}");
        }
    }
}

impl Drop for Scripted {
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
