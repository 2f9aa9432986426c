//! The broker that the variants talk to: an Apache Kafka node, or the built-in broker in a process of its own.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rskafka::client::{Client, ClientBuilder, error::Error, error::ProtocolError};

use crate::child::{Child, free_port};

/// It names Kafka's version.
const POM: &str = include_str!("../../../../../scripts/kafka.d/pom.xml");

/// A long run would write gigabytes, and deleted topics would keep theirs for a minute.
const PROPERTIES: &str = "log.segment.bytes=67108864 log.retention.bytes=134217728 \
                          log.retention.check.interval.ms=5000 log.segment.delete.delay.ms=1000";

/// Limit of creating or deleting a topic, in milliseconds.
const TOPIC_TIMEOUT_MS: i32 = 10_000;

/// A running broker; dropping it ends the process.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) name: String,
    /// HOST:PORT
    pub(crate) bootstrap: String,
    /// Its process leads this group.
    pub(crate) process_group: i32,
    /// The JVM compiles its hot code meanwhile.
    pub(crate) warmup: Duration,
    _process: BrokerProcess,
}

#[derive(Debug)]
enum BrokerProcess {
    BuiltIn { _child: Child },
    Kafka { _node: KafkaNode },
}

/// A cluster of one node; `scripts/kafka` keeps its state in this directory.
#[derive(Debug)]
struct KafkaNode(PathBuf);

/// Runs the built-in broker until the process is killed.
pub(crate) async fn serve(addr: SocketAddr) -> Result<()> {
    broker::Broker::bind(addr).await?.run(std::future::pending()).await;
    Ok(())
}

fn kafka_version() -> Option<&'static str> {
    let (_, version) = POM.split_once("\n  <version>")?;
    Some(version.split_once('<')?.0)
}

// === impl Broker ===

impl Broker {
    pub(crate) async fn built_in(scratch: &Path) -> Result<Self> {
        let addr = free_port()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--serve-broker", &addr.to_string()]);
        let mut child = Child::start("built-in-broker", scratch, command, [])?;
        child.accepts_connections(addr).await?;
        Ok(Self {
            name: "built-in broker".to_owned(),
            bootstrap: addr.to_string(),
            process_group: child.process_group(),
            warmup: Duration::from_secs(1),
            _process: BrokerProcess::BuiltIn { _child: child },
        })
    }

    /// The node stops even if this process is killed: `scripts/kafka` watches `KAFKA_OWNER_PID`.
    pub(crate) fn kafka(scratch: &Path) -> Result<Self> {
        let node = KafkaNode(scratch.join("kafka"));
        let up = node
            .script("up")
            .env("KAFKA_OWNER_PID", std::process::id().to_string())
            .env("KAFKA_PROPERTIES", PROPERTIES)
            .stderr(Stdio::inherit())
            .output()
            .context("scripts/kafka")?;
        ensure!(up.status.success(), "scripts/kafka up failed");
        let pid = fs::read_to_string(node.0.join("node-1/pid")).context("pid of the Kafka node")?;
        Ok(Self {
            name: format!("Apache Kafka {}", kafka_version().unwrap_or_default()),
            bootstrap: String::from_utf8_lossy(&up.stdout).trim().to_owned(),
            process_group: pid.trim().parse().context("pid of the Kafka node")?,
            warmup: Duration::from_secs(12),
            _process: BrokerProcess::Kafka { _node: node },
        })
    }

    /// Creates topics with one partition each.
    pub(crate) async fn create_topics(&self, names: &[String]) -> Result<()> {
        let controller = self.client().await?.controller_client()?;
        for name in names {
            let created = controller.create_topic(name, 1, -1, TOPIC_TIMEOUT_MS).await;
            created.with_context(|| format!("topic {name}"))?;
        }
        Ok(())
    }

    pub(crate) async fn delete_topics(&self, names: &[String]) -> Result<()> {
        let controller = self.client().await?.controller_client()?;
        for name in names {
            match controller.delete_topic(name, TOPIC_TIMEOUT_MS).await {
                Ok(())
                | Err(Error::ServerError {
                    protocol_error: ProtocolError::UnknownTopicOrPartition,
                    ..
                }) => {}
                Err(error) => return Err(error).with_context(|| format!("topic {name}")),
            }
        }
        Ok(())
    }

    async fn client(&self) -> Result<Client> {
        Ok(ClientBuilder::new(vec![self.bootstrap.clone()]).build().await?)
    }
}

// === impl KafkaNode ===

impl KafkaNode {
    fn script(&self, subcommand: &str) -> Command {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/kafka"));
        command.arg(subcommand).env("KAFKA_DIR", &self.0).stdin(Stdio::null());
        command
    }
}

impl Drop for KafkaNode {
    fn drop(&mut self) {
        // The script reports its own failure.
        let _ = self.script("down").status();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafka_version_is_read_from_the_pom() {
        let version = kafka_version().unwrap();
        assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{version}");
    }
}
