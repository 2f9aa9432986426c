//! The worker's settings.

use std::{net::SocketAddr, time::Duration};

use clap::Parser;
use shared::{
    config::{Command, Common, Partitions, StartFrom, address, heading, partitions, positive_duration, topic},
    headers::http::is_hop_by_hop,
    process,
};

use crate::{forward::ForwardTo, reply_topics::ReplyTopic};

/// The default group that a worker without `WORKER_GROUP` commits its offsets under.
const POSITION_GROUP: &str = "worker-static";

/// The default and the longest interval between heartbeats.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);

/// The default number of handlers at a time.
const CONCURRENCY: usize = 64;

/// The default of `HANDLER_STUCK_AFTER`.
const HANDLER_STUCK_AFTER: Duration = Duration::from_mins(5);

/// The largest number of handlers at a time.
const MAX_CONCURRENCY: usize = 10_000;

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

    /// Topics that replies may go to; a name may end in * [default: `PONG_TOPIC`]
    #[arg(long, env, value_delimiter = ',', value_parser = ReplyTopic::parse)]
    pub(crate) reply_topics: Option<Vec<ReplyTopic>>,

    /// Requests that are handled at the same time
    #[arg(long, env, default_value_t = CONCURRENCY, value_parser = concurrency)]
    pub(crate) concurrency: usize,

    /// Where requests go that no caller waits for, and that failed three times
    #[arg(long, env, value_parser = topic)]
    pub(crate) dead_letter_topic: Option<String>,

    /// How long a handler may run; then this worker ends
    #[arg(long, env, default_value = "5m", value_parser = positive_duration)]
    pub(crate) handler_stuck_after: Duration,

    /// Topics whose requests go to `FORWARD_TO`, instead of /ping
    #[arg(long, env, value_delimiter = ',', value_parser = topic)]
    pub(crate) topics: Vec<String>,

    /// HTTP server that answers the requests of `TOPICS`, such as <http://127.0.0.1:3000>
    #[arg(long, env)]
    pub(crate) forward_to: Option<ForwardTo>,

    /// Headers of its responses that replies have, beside the content type
    #[arg(long, env, value_delimiter = ',', value_parser = reply_header)]
    pub(crate) forward_reply_headers: Vec<String>,
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
        if self.topics.is_empty() != self.forward_to.is_none() {
            return Err("TOPICS, FORWARD_TO: both or none of them must be set".to_owned());
        }
        if let (Some(group), Some(_)) = (&self.worker_group, &self.partitions) {
            return Err(format!(
                "PARTITIONS, WORKER_GROUP: only one of them is allowed: in the group {group:?} Kafka divides the partitions"
            ));
        }
        if self.topics.is_empty() {
            return Ok(());
        }
        self.validate_topics(self.topics.iter().map(String::as_str))
    }
}

impl Settings {
    /// Settings of a worker that answers `/ping` beside a gateway, with defaults for all others.
    #[must_use]
    pub fn for_ping(common: Common, admin_addr: SocketAddr, partitions: Partitions, start_from: StartFrom) -> Self {
        Self {
            command: None,
            common,
            admin_addr,
            partitions: Some(partitions),
            worker_group: None,
            position_group: POSITION_GROUP.to_owned(),
            start_from,
            announce_interval: ANNOUNCE_INTERVAL,
            reply_topics: None,
            concurrency: CONCURRENCY,
            dead_letter_topic: None,
            handler_stuck_after: HANDLER_STUCK_AFTER,
            topics: Vec::new(),
            forward_to: None,
            forward_reply_headers: Vec::new(),
        }
    }

    /// Allows replies to these topics, and to no others.
    pub fn set_reply_topics(&mut self, names: impl IntoIterator<Item = String>) {
        self.reply_topics = Some(names.into_iter().map(ReplyTopic::Name).collect());
    }

    /// Checks what these settings have to be for services other than `/ping`.
    pub(crate) fn validate_topics<'a>(&self, topics: impl Iterator<Item = &'a str>) -> Result<(), String> {
        if self.worker_group.is_none() && self.partitions.is_none() {
            return Err(
                "WORKER_GROUP, PARTITIONS: one of them must be set: the group whose members share the \
                        partitions, or all, or the partitions to read"
                    .to_owned(),
            );
        }
        for topic in topics {
            if Some(topic) == self.dead_letter_topic.as_deref() {
                return Err(format!(
                    "DEAD_LETTER_TOPIC: {topic:?} is read: it must be another topic"
                ));
            }
            if topic == self.common.pong_topic {
                return Err(format!("PONG_TOPIC: {topic:?} is read: it must be another topic"));
            }
        }
        Ok(())
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

fn concurrency(text: &str) -> Result<usize, String> {
    let number = text
        .parse()
        .ok()
        .filter(|number| (1..=MAX_CONCURRENCY).contains(number));
    number.ok_or_else(|| format!("a number from 1 to {MAX_CONCURRENCY}"))
}

/// Parses the name of a response header.
fn reply_header(text: &str) -> Result<String, String> {
    let name = text.trim().to_ascii_lowercase();
    let is_field = http::HeaderName::try_from(&name).is_ok();
    if is_field && !is_hop_by_hop(&name) {
        return Ok(name);
    }
    Err("names of header fields separated by commas, such as location, etag; not those of one connection".to_owned())
}

/// Parses the name of a group. Kafka allows any text; the limits are ours.
fn group(text: &str) -> Result<String, String> {
    if matches!(text.len(), 1..=249) && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err("the name of a group: 1 to 249 characters".to_owned())
}
