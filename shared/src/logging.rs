//! Logs to stderr, as text or JSON.
//!
//! - A thread of its own writes the lines. If the reader of stderr stalls, the process continues, and lines beyond 16,384 are
//!   dropped and counted.
//! - Starting the logs and the panic hook changes the process. Only [`process::run`](crate::process::run) does it.

use std::{
    convert::Infallible,
    io::{IsTerminal, Write},
    panic,
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

use clap::ValueEnum;
use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter},
    registry::Registry,
};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    filter::{LevelFilter, ParseError, Targets},
    fmt,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// rskafka logs every attempt, at levels up to error. Its errors are logged where they are handled.
const RSKAFKA_DIRECTIVE: &str = "rskafka=off";

/// Panics are logged whatever the filter says.
const PANIC_DIRECTIVE: &str = "panic=error";

/// The targets that may stand without a level: the crates whose lines can be in a log. Any other word is a misspelled level,
/// which would be taken for a target and turn off all lines.
const TARGETS: [&str; 9] = [
    "broker", "gateway", "kafka", "panic", "pingpong", "rskafka", "rustls", "shared", "worker",
];

/// The most lines that wait for the writing thread.
const MAX_BUFFERED_LINES: usize = 16_384;

/// Bound on writing the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// The writing thread of the process.
static WRITER: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// Counts dropped lines.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// The format of the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Human-readable lines.
    Text,
    /// One JSON object per line.
    Json,
}

/// Writes the buffered lines when it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct LogGuard(());

/// The metric of dropped lines.
#[derive(Debug)]
struct DroppedLines;

/// Parses the filter; an empty one means `info`. The error is the invalid directive.
pub(crate) fn directives(text: &str) -> Result<Targets, String> {
    let text = if text.is_empty() { "info" } else { text };
    if let Some(directive) = text.split(',').find(|directive| !is_directive(directive)) {
        return Err(directive.to_owned());
    }
    // Later directives win, so the user can turn rskafka's lines on.
    let filter = format!("{RSKAFKA_DIRECTIVE},{PANIC_DIRECTIVE},{text}");
    filter.parse().map_err(|_: ParseError| text.to_owned())
}

/// Whether it is `LEVEL`, `TARGET=LEVEL` or a target. The parser of [`Targets`] takes every word for a target.
fn is_directive(text: &str) -> bool {
    let is_level = |text: &str| !text.is_empty() && text.parse::<LevelFilter>().is_ok();
    match text.split_once('=') {
        Some((target, level)) => !target.trim().is_empty() && is_level(level),
        None => is_level(text) || text.contains("::") || TARGETS.contains(&text),
    }
}

/// Starts logging, until [`finish`] or the drop of the guard. `filter` was validated with the configuration.
pub(crate) fn init(filter: &str, format: LogFormat) -> LogGuard {
    let (writer, guard) = writer(std::io::stderr());
    // An error means that it is set: `init` ran before in this process.
    let _ = DROPPED.set(writer.error_counter());
    let lines = fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        // The layer reports a failed write with `eprintln!`, which panics when stderr itself fails. A full disk or a dead
        // log collector must not end the process.
        .log_internal_errors(false)
        .with_writer(writer);
    let filter = directives(filter).unwrap_or_default();
    let registry = tracing_subscriber::registry().with(filter);
    // An error means that the process has a subscriber already.
    let _ = match format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json()).try_init(),
    };
    *WRITER.lock() = Some(guard);
    LogGuard(())
}

/// Sets a panic hook that logs. The default hook writes to stderr itself, and would block while stderr is stalled.
pub(crate) fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let cause = panic.payload_as_str().unwrap_or_default();
        tracing::error!(target: "panic", at = panic.location().map(display), cause, "panicked");
    }));
}

/// Writes the buffered lines, for at most 500 ms. Later lines are lost.
pub(crate) fn finish() {
    let Some(guard) = WRITER.lock().take() else {
        return;
    };
    // In a thread, because the guard's drop has no bound: when stderr is stalled, it blocks on a `println!`.
    let (sender, on_dropped) = mpsc::channel::<Infallible>();
    let flusher = thread::Builder::new().name("log flush".to_owned());
    let spawned = flusher.spawn(move || {
        drop(guard);
        drop(sender);
    });
    if spawned.is_ok() {
        let _ = on_dropped.recv_timeout(FLUSH_TIMEOUT);
    }
}

fn writer(to: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .buffered_lines_limit(MAX_BUFFERED_LINES)
        .thread_name("log")
        .finish(to)
}

/// Registers the metric of dropped lines.
pub(crate) fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(DroppedLines));
}

// === impl LogGuard ===

impl Drop for LogGuard {
    fn drop(&mut self) {
        finish();
    }
}

// === impl DroppedLines ===

impl Collector for DroppedLines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let lines = DROPPED.get().map_or(0, ErrorCounter::dropped_lines);
        let counter = ConstCounter::new(u64::try_from(lines).unwrap_or(u64::MAX));
        let help = "Log lines dropped because stderr was not read in time";
        counter.encode(encoder.encode_descriptor("log_lines_dropped", help, None, MetricType::Counter)?)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::mpsc::{self, Receiver},
    };

    use super::*;

    /// Blocks until the sender is dropped.
    struct Stalled(Receiver<()>);

    impl Write for Stalled {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn panics_are_logged_whatever_the_filter() {
        for text in ["", "off", "worker=debug"] {
            let filter = directives(text).unwrap();
            assert!(filter.would_enable("panic", &tracing::Level::ERROR), "{text}");
            assert!(!filter.would_enable("rskafka", &tracing::Level::ERROR), "{text}");
        }
    }

    #[test]
    fn misspelled_levels_are_no_directives() {
        for text in [
            "info",
            "DEBUG",
            "off",
            "rskafka=debug,info",
            "gateway",
            "worker=debug",
            "gateway::service,warn",
            "hyper=trace",
        ] {
            assert!(directives(text).is_ok(), "{text}");
        }
        for (text, invalid) in [
            ("debgu", "debgu"),
            ("warning", "warning"),
            ("verbose,gateway=debug", "verbose"),
            ("gateway=debgu,info", "gateway=debgu"),
            ("info,", ""),
            ("info,=", "="),
            ("=debug", "=debug"),
            ("gateway=", "gateway="),
            ("a=b=c", "a=b=c"),
        ] {
            assert_eq!(directives(text).unwrap_err(), invalid, "{text}");
        }
    }

    #[test]
    fn lines_beyond_the_buffer_are_dropped_and_counted() {
        let (resume, stalled) = mpsc::channel();
        let (mut writer, guard) = writer(Stalled(stalled));
        let (excess, taken) = (10, 1);
        for _ in 0..MAX_BUFFERED_LINES + excess + taken {
            writer.write_all(b"line\n").unwrap();
        }
        // The writing thread may have taken one line.
        let dropped = writer.error_counter().dropped_lines();
        assert!((excess..=excess + taken).contains(&dropped), "{dropped}");
        drop((resume, guard));
    }
}
