//! Settings of every binary, and parsers for their values. Each setting is an environment variable and a flag.
//!
//! A bad value ends the process with exit code 64 (`EX_USAGE` of sysexits.h) and one line on stderr. The line names the
//! variable, the value and what is allowed.

use std::{collections::BTreeSet, fmt, net::SocketAddr, time::Duration};

use clap::{Subcommand, ValueEnum};

pub use self::command_line::{EX_USAGE, from_env};
pub(crate) use self::command_line::{misspelled_variables, parse, usage_error};
pub use self::kafka::{KafkaSettings, SaslMechanism, Secret, SecurityProtocol};
use crate::{logging::LogFormat, message};

mod command_line;
pub mod heading;
mod kafka;
mod misspelled;

/// The longest duration of a setting.
const MAX_DURATION: Duration = Duration::from_secs(3600);

/// Settings of every process that talks to Kafka.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Where the brokers are, and how they are reached
    #[command(flatten)]
    pub kafka: KafkaSettings,

    /// Topic of the requests
    #[arg(long, env, default_value = message::PING_TOPIC, value_parser = topic, help_heading = heading::TOPICS, global = true)]
    pub ping_topic: String,

    /// Topic of the replies
    #[arg(long, env, default_value = message::PONG_TOPIC, value_parser = topic, help_heading = heading::TOPICS, global = true)]
    pub pong_topic: String,

    /// How long a shutdown may take
    #[arg(long, env, default_value = "8s", value_parser = up_to_an_hour, help_heading = heading::PROCESS)]
    pub drain_timeout: Duration,

    /// What to log: a level, or levels by target such as gateway=debug,info
    #[arg(long, env, default_value = "info", help_heading = heading::PROCESS)]
    pub rust_log: String,

    /// How to log
    #[arg(long, env, default_value = "text", help_heading = heading::PROCESS)]
    pub log_format: LogFormat,
}

/// Which partitions of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Partitions {
    /// The listed ones.
    Listed(BTreeSet<i32>),
    /// All of the topic, including partitions that are added later.
    All,
}

/// The offset at which a worker starts to read a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StartFrom {
    /// At the committed offset; without one, at the end of the log.
    Resume,
    /// At the end of the log.
    Latest,
    /// At the first request in the log.
    Earliest,
}

/// The subcommands. Without one, a binary serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Ask /ready of the process that runs with the same settings; exit 0 when ready, else 1
    Healthcheck,
}

/// Parses a duration above zero and of at most one hour, such as `500ms` or `10s`.
///
/// # Errors
/// What is allowed.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() && duration <= MAX_DURATION => Ok(duration),
        _ => Err("a duration above zero, 1h at most, such as 500ms, 10s or 2m".to_owned()),
    }
}

/// Parses `all`, or partition numbers separated by commas.
///
/// # Errors
/// What is allowed.
pub fn partitions(text: &str) -> Result<Partitions, String> {
    if text.trim() == "all" {
        return Ok(Partitions::All);
    }
    let listed = text.split(',').map(|number| partition(number.trim()));
    match listed.collect() {
        Ok(listed) => Ok(Partitions::Listed(listed)),
        Err(_) => Err("all, or partition numbers such as 0 or 0,1,2".to_owned()),
    }
}

/// Parses a partition number.
///
/// # Errors
/// What is allowed.
pub fn partition(text: &str) -> Result<i32, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits);
    number.ok_or_else(|| "a partition number such as 0".to_owned())
}

/// Parses an address to listen on.
///
/// # Errors
/// What is allowed.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "an IP address and a port, such as 0.0.0.0:8080 or [::]:8080".to_owned())
}

fn up_to_an_hour(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= MAX_DURATION => Ok(duration),
        _ => Err("a duration, 1h at most, such as 0s, 500ms, 10s or 2m".to_owned()),
    }
}

fn broker(text: &str) -> Result<String, String> {
    let text = text.trim();
    let is_host =
        |host: &str| !host.is_empty() && !host.contains(|c: char| matches!(c, '/' | ';') || c.is_whitespace());
    let is_port = |port: &str| !port.starts_with('+') && port.parse::<u16>().is_ok_and(|number| number > 0);
    match text.rsplit_once(':') {
        Some((host, port)) if is_host(host) && is_port(port) => Ok(text.to_owned()),
        _ => Err("host:port, or several separated by commas".to_owned()),
    }
}

/// Parses the name of a topic.
///
/// # Errors
/// What is allowed.
pub fn topic(text: &str) -> Result<String, String> {
    if is_topic_name(text) {
        return Ok(text.to_owned());
    }
    Err("a topic name: 1 to 249 of a-z A-Z 0-9 . _ -".to_owned())
}

/// Whether Kafka allows it as the name of a topic (`org.apache.kafka.common.internals.Topic`).
#[must_use]
pub fn is_topic_name(text: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    matches!(text.len(), 1..=249) && !matches!(text, "." | "..") && text.bytes().all(is_legal)
}

// === impl Partitions ===

/// As [`partitions`] parses it.
impl fmt::Display for Partitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Listed(listed) => {
                let numbers: Vec<_> = listed.iter().map(i32::to_string).collect();
                f.write_str(&numbers.join(","))
            }
        }
    }
}

// === impl Common ===

impl Common {
    /// Checks that these settings agree with each other.
    ///
    /// # Errors
    /// The contradiction, on one line.
    pub fn validate(&self) -> Result<(), String> {
        if self.ping_topic == self.pong_topic {
            return Err(format!(
                "PING_TOPIC, PONG_TOPIC: both are {:?}: they must be different topics",
                self.ping_topic
            ));
        }
        crate::logging::directives(&self.rust_log).map(drop).map_err(|directive| {
            format!(
                "RUST_LOG: {:?} is not allowed: it must be tracing directives such as gateway=debug,info, with levels \
                 off, error, warn, info, debug or trace; {directive:?} is none",
                self.rust_log
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Settings {
        #[command(flatten)]
        common: Common,
    }

    #[test]
    fn partitions_parse_all_or_numbers() {
        let listed = |numbers: &[i32]| Ok(Partitions::Listed(numbers.iter().copied().collect()));
        assert_eq!(partitions("all"), Ok(Partitions::All));
        assert_eq!(partitions("0"), listed(&[0]));
        assert_eq!(partitions("3, 1,3"), listed(&[1, 3]));
        for bad in ["", "0,", "-1", "+1", "one", "All", "2147483648", "0-3"] {
            assert!(partitions(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn brokers_are_separated_by_commas() {
        let settings = Settings::try_parse_from(["test", "--kafka-brokers", "a:1, [::1]:2"]).unwrap();
        assert_eq!(settings.common.kafka.kafka_brokers, ["a:1", "[::1]:2"]);
    }
}
