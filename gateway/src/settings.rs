//! The gateway's settings.

use std::{net::SocketAddr, time::Duration};

use bytesize::ByteSize;
use clap::Parser;
use shared::{
    config::{Command, Common, address, positive_duration},
    process,
};

/// The largest body that can be allowed: with its frame it still fits the largest record that a broker takes by
/// default (`message.max.bytes`, 1 MiB), even if each byte is escaped in JSON.
const MAX_BODY_BYTES: u64 = 512 * 1024;

/// Settings of the gateway: each is a flag and an environment variable.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "gateway",
    version,
    about = "HTTP requests to Kafka records, and the replies back"
)]
pub struct Settings {
    /// What to do instead of serving
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Settings that the worker has as well
    #[command(flatten)]
    pub common: Common,

    /// Where callers connect
    #[arg(long, env, default_value = "0.0.0.0:8080", value_parser = address)]
    pub http_addr: SocketAddr,

    /// Where /live, /ready and /metrics are
    #[arg(long, env, default_value = "0.0.0.0:8081", value_parser = address)]
    pub admin_addr: SocketAddr,

    /// How long a caller waits for the reply
    #[arg(long, env, default_value = "10s", value_parser = positive_duration)]
    pub reply_timeout: Duration,

    /// Callers that may wait at the same time; more are refused with 503
    #[arg(long, env, default_value = "16384", value_parser = up_to_a_million)]
    pub max_in_flight: usize,

    /// Connections that may be open at the same time; more are refused with 503
    #[arg(long, env, default_value = "20000", value_parser = up_to_a_million)]
    pub max_connections: usize,

    /// How long a caller may take to send a head or a body, and may keep an idle connection
    #[arg(long, env, default_value = "10s", value_parser = positive_duration)]
    pub header_timeout: Duration,

    /// The largest body
    #[arg(long, env, default_value = "64KiB", value_parser = body_size)]
    pub max_body: ByteSize,
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

fn up_to_a_million(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(it @ 1..=1_000_000) => Ok(it),
        _ => Err("a whole number from 1 to 1000000".to_owned()),
    }
}

fn body_size(text: &str) -> Result<ByteSize, String> {
    match text.parse::<ByteSize>() {
        Ok(it) if (1..=MAX_BODY_BYTES).contains(&it.as_u64()) => Ok(it),
        _ => Err("a size from 1B to 512KiB, such as 64KiB".to_owned()),
    }
}
