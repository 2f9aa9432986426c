//! Logs: to stderr, as text or JSON.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::{
    filter::{ParseError, Targets},
    fmt,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// The Kafka client logs every attempt at info to error; what matters of it comes back to us as an error, and is
/// logged once, where it is handled.
const QUIET: &str = "rskafka=off";

/// The form of the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Reads the filter; an empty one is `info`.
pub(crate) fn directives(text: &str) -> Result<Targets, ParseError> {
    let text = if text.is_empty() { "info" } else { text };
    // What the user says about the client comes later and wins.
    format!("{QUIET},{text}").parse()
}

/// Starts logging. `filter` was validated with the configuration.
pub fn init(filter: &str, format: LogFormat) {
    let lines = fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        // It would report a line that cannot be written with `eprintln!`, which panics where stderr is the trouble:
        // a full disk or a log collector that is gone must not end the process.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    let filter = directives(filter).unwrap_or_default();
    let registry = tracing_subscriber::registry().with(filter);
    // An error means that a test has set up its own.
    let _ = match format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json()).try_init(),
    };
}
