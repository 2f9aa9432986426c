//! The worker's settings.

use std::net::SocketAddr;

use clap::{Parser, ValueEnum};
use shared::{
    config::{Command, Common, address},
    kafka::Start,
    process,
};

/// Settings of the worker: each is a flag and an environment variable.
#[derive(Debug, Clone, Parser)]
#[command(name = "worker", version, about = "Answers the requests in a Kafka topic")]
pub struct Settings {
    /// What to do instead of serving
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Settings that the gateway has as well
    #[command(flatten)]
    pub common: Common,

    /// Where /live, /ready and /metrics are
    #[arg(long, env, default_value = "0.0.0.0:8082", value_parser = address)]
    pub admin_addr: SocketAddr,

    /// Where to begin in the topic of the requests
    #[arg(long, env, default_value = "latest")]
    pub start_from: StartFrom,
}

/// Where a worker begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StartFrom {
    /// With what comes after its start.
    Latest,
    /// With the first request in the log.
    Earliest,
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
}

// === impl StartFrom ===

impl From<StartFrom> for Start {
    fn from(start: StartFrom) -> Self {
        match start {
            StartFrom::Latest => Self::Latest,
            StartFrom::Earliest => Self::Earliest,
        }
    }
}
