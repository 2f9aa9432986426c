//! The gateway's settings.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use bytesize::ByteSize;
use clap::{Parser, Subcommand};
use shared::{
    config::{self, Common, Partitions, address, heading, partition, partitions, positive_duration},
    headers::Dialect,
    message::PING_TOPIC,
    process,
};

use crate::{
    ask::{self, Ask},
    check::{self, Check},
    reply_address::ReplyPartition,
    routes::{Defaults, Routes},
};

/// The upper limit of `MAX_BODY`: half of the largest batch that a broker accepts by default (`message.max.bytes`, 1 MiB).
/// Escapes do not enlarge it: what is escaped in the record was escaped in the body.
const MAX_BODY_BYTES: u64 = 512 * 1024;

/// The upper limit of `MAX_IN_FLIGHT` and `MAX_CONNECTIONS`.
pub(crate) const MAX_CALLERS: usize = 1_000_000;

/// What `--help` prints last.
const EXAMPLES: &str = "\
Each flag is also an environment variable: --reply-timeout 5s is REPLY_TIMEOUT=5s.

Examples:
  gateway --kafka-brokers localhost:9092 --reply-timeout 5s
  KAFKA_BROKERS=kafka-1:9092,kafka-2:9092 LOG_FORMAT=json gateway
  gateway --routes routes.toml --kafka-brokers localhost:9092";

/// Settings of the gateway: each is a flag and an environment variable.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "gateway",
    version,
    about = "HTTP requests to Kafka records, and the replies back",
    after_help = EXAMPLES,
    next_help_heading = heading::HTTP
)]
pub struct Settings {
    /// What to do instead of serving
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Where callers connect
    #[arg(long, env, default_value = "0.0.0.0:8080", value_parser = address)]
    pub http_addr: SocketAddr,

    /// File with the routes, TOML [default: the built-in route /ping]
    #[arg(long, env, global = true)]
    pub routes: Option<PathBuf>,

    /// Settings that the worker has as well
    #[command(flatten)]
    pub common: Common,

    /// Create missing topics [default: only without ROUTES]
    #[arg(long, env, help_heading = heading::TOPICS)]
    pub create_topics: Option<bool>,

    /// Where /live, /ready, /metrics and /workers are
    #[arg(long, env, default_value = "0.0.0.0:8081", value_parser = address, help_heading = heading::PROCESS)]
    pub admin_addr: SocketAddr,

    /// How long a caller waits for the reply
    #[arg(long, env, default_value = "10s", value_parser = positive_duration)]
    pub reply_timeout: Duration,

    /// Partitions of the request topic to write to: all, or their numbers
    #[arg(long, env, default_value = "0", value_parser = partitions, help_heading = heading::TOPICS)]
    pub request_partitions: Partitions,

    /// Partition of the reply topic to read: a number, or auto (by HOSTNAME)
    #[arg(long, env, default_value = "0", value_parser = reply_partition, help_heading = heading::TOPICS, global = true)]
    pub reply_partition: ReplyPartition,

    /// Name of this host; the number at its end chooses the reply partition if that is auto
    #[arg(long, env, help_heading = heading::TOPICS, global = true)]
    pub hostname: Option<String>,

    /// Header dialect
    #[arg(long, env, default_value = "common", help_heading = heading::TOPICS, global = true)]
    pub wire_headers: Dialect,

    /// Callers that may wait at the same time; more are refused with 503
    #[arg(long, env, default_value = "16384", value_parser = up_to_a_million)]
    pub max_in_flight: usize,

    /// Connections that may be open at the same time; more are refused with 503
    #[arg(long, env, default_value = "20000", value_parser = up_to_a_million)]
    pub max_connections: usize,

    /// How long a connection may be idle after a response
    #[arg(long, env, default_value = "75s", value_parser = positive_duration)]
    pub idle_timeout: Duration,

    /// How long a caller may take to send a head or a body
    #[arg(long, env, default_value = "10s", value_parser = positive_duration)]
    pub header_timeout: Duration,

    /// The largest body
    #[arg(long, env, default_value = "64KiB", value_parser = body_size)]
    pub max_body: ByteSize,
}

/// The subcommands. Without one, the gateway serves.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Ask /ready of the process that runs with the same settings; exit 0 when ready, else 1
    Healthcheck,
    /// Check a file of routes and print its table; exit 64 with every problem
    Check(Check),
    /// Send one request through Kafka and say what came back; exit 0 with a usable reply
    Ask(Ask),
}

// === impl Settings ===

impl Settings {
    /// The routes of the file, or the built-in one.
    ///
    /// # Errors
    /// Every problem of the file, one a line.
    pub(crate) fn read_routes(&self) -> Result<Routes, String> {
        match &self.routes {
            Some(path) => Routes::read(path, &self.defaults()),
            None => Routes::built_in(&self.common.ping_topic, &self.request_partitions, &self.defaults()),
        }
    }

    /// The settings of the built-in route that a file of routes makes useless.
    pub(crate) fn unused(&self) -> Vec<&'static str> {
        let default_partitions = Partitions::Listed([0].into());
        let settings = [
            ("PING_TOPIC", self.common.ping_topic != PING_TOPIC),
            ("REQUEST_PARTITIONS", self.request_partitions != default_partitions),
        ];
        let unused = settings
            .into_iter()
            .filter(|(_, is_set)| self.routes.is_some() && *is_set);
        unused.map(|(name, _)| name).collect()
    }

    /// What a route has that does not say otherwise.
    pub(crate) fn defaults(&self) -> Defaults {
        Defaults {
            reply_topic: self.common.pong_topic.clone(),
            timeout: self.reply_timeout,
            max_in_flight: self.max_in_flight,
            max_body: usize::try_from(self.max_body.as_u64()).unwrap_or(usize::MAX),
            dialect: self.wire_headers,
            reply_partition: self.reply_partition,
        }
    }
}

impl process::Settings for Settings {
    fn common(&self) -> &Common {
        &self.common
    }

    fn admin_addr(&self) -> SocketAddr {
        self.admin_addr
    }

    fn command(&self) -> Option<config::Command> {
        matches!(self.command, Some(Command::Healthcheck)).then_some(config::Command::Healthcheck)
    }

    fn run_alone(&self) -> Option<ExitCode> {
        match &self.command {
            Some(Command::Check(check)) => Some(check::run(check, self)),
            Some(Command::Ask(ask)) => Some(ask::run(ask, self)),
            _ => None,
        }
    }

    fn validate(&self) -> Result<(), String> {
        self.common.validate()?;
        kafka::Security::new(&self.common.kafka)?;
        let topic = &self.common.pong_topic;
        match (self.wire_headers, self.reply_partition) {
            (Dialect::None, ReplyPartition::Fixed(0)) => {}
            (Dialect::None, choice) => {
                return Err(format!(
                    "REPLY_PARTITION: \"{choice}\" is not allowed with WIRE_HEADERS=none: it must be 0, because requests \
                     that do not say where their replies go get them there"
                ));
            }
            _ if topic.starts_with("__") => {
                return Err(format!(
                    "PONG_TOPIC: {topic:?} is not allowed unless WIRE_HEADERS=none: it must not begin with __, which is \
                     for Kafka's own topics; workers refuse to reply there"
                ));
            }
            _ => {}
        }
        self.read_routes().map(drop)
    }
}

fn reply_partition(text: &str) -> Result<ReplyPartition, String> {
    match (text.trim(), partition(text.trim())) {
        ("auto", _) => Ok(ReplyPartition::Auto),
        (_, Ok(number)) => Ok(ReplyPartition::Fixed(number)),
        _ => Err("auto, or a partition number such as 0".to_owned()),
    }
}

fn up_to_a_million(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=MAX_CALLERS) => Ok(number),
        _ => Err("a whole number from 1 to 1000000".to_owned()),
    }
}

/// Parses a size of a body.
///
/// # Errors
/// What is allowed.
pub(crate) fn body_size(text: &str) -> Result<ByteSize, String> {
    match text.parse::<ByteSize>() {
        Ok(size) if (1..=MAX_BODY_BYTES).contains(&size.as_u64()) => Ok(size),
        _ => Err("a size from 1B to 512KiB, such as 64KiB".to_owned()),
    }
}
