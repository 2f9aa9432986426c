//! The worker's settings.

use std::{net::SocketAddr, time::Duration};

use clap::Parser;
use shared::{
    config::{Command, Common, Partitions, StartFrom, address, heading, partitions},
    process,
};

/// The default group that a worker without `WORKER_GROUP` commits its offsets under.
pub const POSITION_GROUP: &str = "worker-static";

/// The default and the longest interval between heartbeats.
pub const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);

/// The shortest interval between heartbeats.
const MIN_ANNOUNCE_INTERVAL: Duration = Duration::from_millis(100);

/// What `--help` prints last.
const EXAMPLES: &str = "\
Each flag is also an environment variable: --worker-group pingers is WORKER_GROUP=pingers.

Examples:
  worker --kafka-brokers localhost:9092 --worker-group pingers
  KAFKA_BROKERS=kafka-1:9092,kafka-2:9092 PARTITIONS=all worker";

/// Settings of the worker: each is a flag and an environment variable.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "worker",
    version,
    about = "Answers the requests in a Kafka topic",
    after_help = EXAMPLES,
    next_help_heading = heading::TOPICS
)]
pub struct Settings {
    /// What to do instead of serving
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Settings that the gateway has as well
    #[command(flatten)]
    pub common: Common,

    /// Where /live, /ready and /metrics are
    #[arg(long, env, default_value = "0.0.0.0:8082", value_parser = address, help_heading = heading::PROCESS)]
    pub admin_addr: SocketAddr,

    /// Partitions of the request topic to read: all, or their numbers [default: 0]
    #[arg(long, env, value_parser = partitions)]
    pub partitions: Option<Partitions>,

    /// Group of workers among which Kafka divides the partitions (Kafka 4.0 or later)
    #[arg(long, env, value_parser = group)]
    pub worker_group: Option<String>,

    /// Group of the committed offsets, without a worker group
    #[arg(long, env, default_value = POSITION_GROUP, value_parser = group)]
    pub position_group: String,

    /// Where to start
    #[arg(long, env, default_value = "resume")]
    pub start_from: StartFrom,

    /// Interval between heartbeats to the gateways; 0 turns them off
    #[arg(long, env, default_value = "1s", value_parser = announce_interval)]
    pub announce_interval: Duration,
}

// === impl Settings ===

impl process::Settings for Settings {
    fn common(&self) -> &Common {
        &self.common
    }

    fn admin_addr(&self) -> SocketAddr {
        self.admin_addr
    }

    fn command(&self) -> Option<Command> {
        self.command
    }

    fn validate(&self) -> Result<(), String> {
        self.common.validate()?;
        kafka::Security::new(&self.common.kafka)?;
        match (&self.worker_group, &self.partitions) {
            (Some(group), Some(_)) => Err(format!(
                "PARTITIONS, WORKER_GROUP: only one of them is allowed: in the group {group:?} Kafka divides the partitions"
            )),
            _ => Ok(()),
        }
    }
}

/// Parses the heartbeat interval. Gateways report `no worker available` after 3 s without a heartbeat.
fn announce_interval(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(interval) if interval.is_zero() || (MIN_ANNOUNCE_INTERVAL..=ANNOUNCE_INTERVAL).contains(&interval) => {
            Ok(interval)
        }
        _ => Err("0 or 100ms to 1s".to_owned()),
    }
}

/// Parses the name of a group. Kafka allows any text; the limits are ours.
fn group(text: &str) -> Result<String, String> {
    if matches!(text.len(), 1..=249) && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err("the name of a group: 1 to 249 characters".to_owned())
}
