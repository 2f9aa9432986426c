//! A cluster whose nodes a test can stop: Apache Kafka through `scripts/kafka`, or the built-in broker.

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

/// Makes the directory names of this process unique.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// Nodes on this machine, numbered from 1. They end with this value.
#[derive(Debug)]
pub struct Cluster {
    nodes: Nodes,
    brokers: String,
}

/// Node settings that differ from `scripts/kafka.d/node.properties`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeSettings {
    /// `connections.max.idle.ms`.
    pub max_idle: Option<Duration>,
    /// `broker.session.timeout.ms`: how long a node may be silent before it loses its partitions. (A built-in node never
    /// does.)
    pub session_timeout: Option<Duration>,
}

#[derive(Debug)]
enum Nodes {
    Kafka(Scripted),
    BuiltIn(BuiltIn),
}

/// Nodes whose state is in a directory of `scripts/kafka`.
#[derive(Debug)]
struct Scripted {
    dir: PathBuf,
}

// === impl Cluster ===

impl Cluster {
    /// Starts `nodes` nodes of Apache Kafka, each broker and controller, on free ports.
    ///
    /// # Errors
    /// With the stderr of the script.
    pub async fn kafka(nodes: u32, settings: NodeSettings) -> Result<Self, String> {
        let name = format!(
            "pingpong-e2e-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        // Created before the nodes, so that an interrupted start also stops them.
        let scripted = Scripted {
            dir: temporary().join(name),
        };
        let stdout = script(&scripted.dir, &["up", &nodes.to_string()], &settings.properties()).await?;
        Ok(Self {
            nodes: Nodes::Kafka(scripted),
            brokers: stdout.trim().to_owned(),
        })
    }

    /// Starts `nodes` nodes of the built-in broker.
    pub async fn built_in(nodes: u32, settings: NodeSettings) -> Self {
        let (broker, brokers) = BuiltIn::up(nodes, settings.max_idle).await;
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

    /// The fault injection of the built-in broker.
    #[must_use]
    pub fn faults(&self) -> Option<&Faults> {
        match &self.nodes {
            Nodes::Kafka(_) => None,
            Nodes::BuiltIn(broker) => Some(broker.faults()),
        }
    }

    /// SIGKILL. Returns when the node has ended.
    pub async fn kill(&self, node: u32) {
        match &self.nodes {
            Nodes::Kafka(scripted) => scripted.act(&["kill", &node.to_string()]).await,
            Nodes::BuiltIn(broker) => broker.stop(node).await,
        }
    }

    /// SIGTERM. Returns when the node has ended. (A built-in node ends as with `kill`.)
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
    /// On the built-in broker, which pauses all nodes together.
    pub async fn pause_node(&self, node: u32) {
        match &self.nodes {
            Nodes::Kafka(scripted) => scripted.act(&["pause", &node.to_string()]).await,
            Nodes::BuiltIn(_) => panic!("the built-in broker pauses all nodes together"),
        }
    }

    /// SIGCONT of one of several nodes.
    ///
    /// # Panics
    /// On the built-in broker.
    pub async fn resume_node(&self, node: u32) {
        match &self.nodes {
            Nodes::Kafka(scripted) => scripted.act(&["resume", &node.to_string()]).await,
            Nodes::BuiltIn(_) => panic!("the built-in broker resumes all nodes together"),
        }
    }

    /// Starts a stopped node with its ports and its data. Returns when it answers.
    pub async fn start(&self, node: u32) {
        match &self.nodes {
            Nodes::Kafka(scripted) => scripted.act(&["start", &node.to_string()]).await,
            Nodes::BuiltIn(broker) => broker.start(node).await,
        }
    }

    /// Makes a node the leader of a partition. Returns when it is.
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

// === impl NodeSettings ===

impl NodeSettings {
    /// For nodes that are paused but never killed. Kafka admits a killed node again only after its session; it takes the
    /// partitions of a paused node, or of one without CPU for its heartbeats, when the session ends.
    pub const LONG_SESSION: Self = Self {
        max_idle: None,
        session_timeout: Some(Duration::from_secs(60)),
    };

    /// The lines of a properties file.
    fn properties(self) -> String {
        let properties = [
            ("connections.max.idle.ms", self.max_idle),
            ("broker.session.timeout.ms", self.session_timeout),
        ];
        let set = properties.into_iter().filter_map(|(key, value)| Some((key, value?)));
        set.map(|(key, value)| format!("{key}={}\n", value.as_millis()))
            .collect()
    }
}

// === impl Scripted ===

impl Scripted {
    /// Panics with the stderr of the script when it fails.
    async fn act(&self, args: &[&str]) {
        if let Err(error) = script(&self.dir, args, "").await {
            panic!("{error}");
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        // After a failure the script stops the nodes when this process ends (KAFKA_OWNER_PID).
        let _ = BlockingCommand::new(SCRIPT)
            .arg("down")
            .env("KAFKA_DIR", &self.dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// Runs the script, whose waits are bounded, and returns its stdout.
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
    let stderr = String::from_utf8_lossy(&ended.stderr);
    Err(format!("scripts/kafka {} failed: {stderr}", args.join(" ")))
}
