//! A cluster whose nodes a test can stop: Apache Kafka through `scripts/kafka`, or the built-in broker.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command as BlockingCommand, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use broker::Faults;
use tokio::process::Command;

use crate::{
    built_in::BuiltIn,
    environment::temporary,
    secure_cluster::{JavaProducer, output_of},
};

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
    /// `compression.type`: the codec in which the nodes store every batch. (A built-in node stores batches as they came.)
    pub compression: Option<&'static str>,
    /// `message.max.bytes`: the largest batch.
    pub max_batch_bytes: Option<u32>,
    /// A port of the loopback that the only node advertises instead of its own: of a proxy in front of it.
    pub advertised_port: Option<u16>,
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
        let mut up = command(&scripted.dir, &["up", &nodes.to_string()]);
        up.env("KAFKA_PROPERTIES", settings.properties());
        let stdout = output_of(up, "").await?;
        Ok(Self {
            nodes: Nodes::Kafka(scripted),
            brokers: stdout.trim().to_owned(),
        })
    }

    /// Starts `nodes` nodes of the built-in broker.
    pub async fn built_in(nodes: u32, settings: NodeSettings) -> Self {
        let (broker, brokers) = BuiltIn::up(nodes, settings).await;
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

    /// Runs commands of `scripts/kafka.d/Administer.java`, one a line, such as `quota client-id gateway
    /// producer_byte_rate=20000`. They are in effect on all live nodes afterwards.
    ///
    /// # Panics
    /// With the error text of the first that fails; on the built-in broker.
    pub async fn administer(&self, commands: &str) {
        let output = output_of(command(&self.scripted().dir, &["admin"]), commands).await;
        output.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Starts Kafka's Java producer. `settings` are `key=value`, such as `compression.type=zstd`.
    ///
    /// # Panics
    /// When the script cannot be run; on the built-in broker.
    #[must_use]
    pub fn java_producer(&self, settings: &[&str]) -> JavaProducer {
        let mut command = command(&self.scripted().dir, &["produce"]);
        command.args(settings);
        JavaProducer::spawn(command)
    }

    /// The codecs of the batches of partition 0 of a topic, as node 1 has stored them: 0 none, 1 gzip, 2 snappy, 3 lz4,
    /// 4 zstd.
    ///
    /// # Panics
    /// When its log cannot be read; on the built-in broker.
    #[must_use]
    pub fn stored_codecs(&self, topic: &str) -> BTreeSet<u8> {
        let log = self.scripted().dir.join(format!("node-1/data/{topic}-0"));
        let files = fs::read_dir(&log).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let paths = files.flatten().map(|file| file.path());
        let segments = paths.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
        segments
            .flat_map(|path| codecs(&fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))))
            .collect()
    }

    fn scripted(&self) -> &Scripted {
        match &self.nodes {
            Nodes::Kafka(scripted) => scripted,
            Nodes::BuiltIn(_) => panic!("it is for nodes of Apache Kafka"),
        }
    }
}

/// The codec of each batch in a segment. The length of a batch stands at 8 and does not count the bytes before its end; the
/// codec is in the lowest three bits of the attributes, which end at 22.
fn codecs(mut segment: &[u8]) -> Vec<u8> {
    let mut codecs = Vec::new();
    while let Some((prefix, rest)) = segment.split_first_chunk::<12>() {
        let [.., a, b, c, d] = *prefix;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let Some((batch, next)) = rest.split_at_checked(length) else {
            break;
        };
        codecs.extend(batch.get(10).map(|attributes| attributes & 0x07));
        segment = next;
    }
    codecs
}

// === impl NodeSettings ===

impl NodeSettings {
    /// For nodes that are paused but never killed. Kafka admits a killed node again only after its session; it takes the
    /// partitions of a paused node, or of one without CPU for its heartbeats, when the session ends.
    pub const LONG_SESSION: Self = Self {
        session_timeout: Some(Duration::from_secs(60)),
        ..Self::NONE
    };

    const NONE: Self = Self {
        max_idle: None,
        session_timeout: None,
        compression: None,
        max_batch_bytes: None,
        advertised_port: None,
    };

    /// The lines of a properties file.
    fn properties(self) -> String {
        let millis = |time: Duration| time.as_millis().to_string();
        let properties = [
            ("connections.max.idle.ms", self.max_idle.map(millis)),
            ("broker.session.timeout.ms", self.session_timeout.map(millis)),
            ("compression.type", self.compression.map(str::to_owned)),
            ("message.max.bytes", self.max_batch_bytes.map(|bytes| bytes.to_string())),
            (
                "advertised.listeners",
                self.advertised_port.map(|port| format!("PLAINTEXT://127.0.0.1:{port}")),
            ),
        ];
        let set = properties.into_iter().filter_map(|(key, value)| Some((key, value?)));
        set.map(|(key, value)| format!("{key}={value}\n")).collect()
    }
}

// === impl Scripted ===

impl Scripted {
    /// Panics with the stderr of the script when it fails.
    async fn act(&self, args: &[&str]) {
        if let Err(error) = output_of(command(&self.dir, args), "").await {
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

/// A run of the script, whose waits are bounded.
fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(SCRIPT);
    command
        .args(args)
        .env("KAFKA_DIR", dir)
        .env("KAFKA_OWNER_PID", std::process::id().to_string())
        .env("KAFKA_TIMEOUT", "120")
        .env_remove("KAFKA_PORT")
        .env_remove("KAFKA_PROPERTIES")
        .kill_on_drop(true);
    command
}
