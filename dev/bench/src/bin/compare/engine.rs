//! What speaks Kafka's protocol under the variants.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::child::{Child, free_port};

/// What names Kafka's version.
const POM: &str = include_str!("../../../../../scripts/kafka.d/pom.xml");

/// A broker that runs; it ends with this value.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    pub(crate) brokers: String,
    pub(crate) pid: i32,
    _life: Life,
}

#[derive(Debug)]
enum Life {
    Child { _child: Child },
    Node { _node: Node },
}

/// A Kafka node in a directory.
#[derive(Debug)]
struct Node(PathBuf);

/// The version that `scripts/kafka` runs.
pub(crate) fn kafka_version() -> Option<&'static str> {
    let (_, version) = POM.split_once("\n  <version>")?;
    Some(version.split_once('<')?.0)
}

// === impl Engine ===

impl Engine {
    /// The built-in broker, in a process of its own.
    pub(crate) async fn built_in(scratch: &Path) -> Result<Self> {
        let addr = free_port()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["built-in-broker", &addr.to_string()]);
        let child = Child::start("built-in-broker", scratch, command, [("RUST_LOG", "warn")])?;
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        while tokio::net::TcpStream::connect(addr).await.is_err() {
            ensure!(
                tokio::time::Instant::now() < deadline,
                "the built-in broker does not start"
            );
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        Ok(Self {
            name: "built-in",
            brokers: addr.to_string(),
            pid: child.pid(),
            _life: Life::Child { _child: child },
        })
    }

    /// A node of Apache Kafka. It is stopped even if this process is killed.
    pub(crate) fn kafka(scratch: &Path) -> Result<Self> {
        let node = Node(scratch.join("kafka"));
        let up = node
            .script("up")
            .env("KAFKA_OWNER_PID", std::process::id().to_string())
            // The log of a run would have gigabytes.
            .env(
                "KAFKA_PROPERTIES",
                "log.segment.bytes=67108864 log.retention.bytes=134217728 log.retention.check.interval.ms=5000",
            )
            .stderr(Stdio::inherit())
            .output()
            .context("scripts/kafka")?;
        ensure!(up.status.success(), "scripts/kafka up failed");
        let pid = fs::read_to_string(node.0.join("node-1/pid")).context("the node's process")?;
        Ok(Self {
            name: "Kafka",
            brokers: String::from_utf8_lossy(&up.stdout).trim().to_owned(),
            pid: pid.trim().parse().context("the node's process")?,
            _life: Life::Node { _node: node },
        })
    }
}

// === impl Node ===

impl Node {
    fn script(&self, what: &str) -> Command {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/kafka"));
        command.arg(what).env("KAFKA_DIR", &self.0).stdin(Stdio::null());
        command
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It says itself what it cannot do.
        let _ = self.script("down").status();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found() {
        let version = kafka_version().unwrap();
        assert!(version.starts_with(|it: char| it.is_ascii_digit()), "{version}");
    }
}
