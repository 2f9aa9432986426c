//! Logs: to stderr, as text or JSON.
//!
//! A thread of its own writes them: whoever reads the log may stop, and the process goes on. What there is no room for
//! then is dropped and counted.

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
    filter::{ParseError, Targets},
    fmt,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// The Kafka client logs every attempt at info to error; what matters of it comes back to us as an error, and is
/// logged once, where it is handled.
const QUIET: &str = "rskafka=off";

/// Whatever else is logged: where a panic was.
const PANICS: &str = "panic=error";

/// Lines that wait to be written.
const MAX_LINES: usize = 16_384;

/// How long the last lines may take.
const LAST_LINES: Duration = Duration::from_millis(500);

/// The thread that writes. There is one log for the whole process.
static WRITER: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// Lines that were dropped.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// What is counted of the log.
#[derive(Debug)]
struct Dropped;

/// The form of the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Reads the filter; an empty one is `info`. The error is the directive that is none.
pub(crate) fn directives(text: &str) -> Result<Targets, String> {
    let text = if text.is_empty() { "info" } else { text };
    // A target or a level without a name is none, but the parser takes it.
    let unnamed = |directive: &&str| directive.split('=').any(|it| it.trim().is_empty());
    if let Some(directive) = text.split(',').find(unnamed) {
        return Err(format!("{directive:?}"));
    }
    // What the user says about the client comes later and wins.
    let filter = format!("{QUIET},{PANICS},{text}");
    filter.parse().map_err(|error: ParseError| error.to_string())
}

/// Writes what waits at the end, in whatever way it comes.
#[derive(Debug)]
#[must_use]
pub struct Log(());

/// Starts logging, until [`finish`] or the end of [`Log`]. `filter` was validated with the configuration.
pub fn init(filter: &str, format: LogFormat) -> Log {
    let (writer, guard) = writer(std::io::stderr());
    // Set before, if a test has set up its own.
    let _ = DROPPED.set(writer.error_counter());
    let lines = fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        // It would report a line that cannot be written with `eprintln!`, which panics where stderr is the trouble:
        // a full disk or a log collector that is gone must not end the process.
        .log_internal_errors(false)
        .with_writer(writer);
    let filter = directives(filter).unwrap_or_default();
    let registry = tracing_subscriber::registry().with(filter);
    // An error means that a test has set up its own.
    let _ = match format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json()).try_init(),
    };
    *WRITER.lock() = Some(guard);
    // Not to stderr itself, for which the thread would have to wait.
    panic::set_hook(Box::new(|panic| {
        let cause = panic.payload_as_str().unwrap_or_default();
        tracing::error!(target: "panic", at = panic.location().map(display), cause, "panicked");
    }));
    Log(())
}

/// Writes what waits, unless that takes longer than half a second. Nothing is logged from then on.
pub fn finish() {
    let Some(guard) = WRITER.lock().take() else {
        return;
    };
    // Where nobody takes the log it says so with `println!`, and waits for somebody to take that.
    let (written, all_written) = mpsc::channel::<Infallible>();
    let end = thread::Builder::new().name("end of log".to_owned());
    let ended = end.spawn(move || {
        drop(guard);
        drop(written);
    });
    if ended.is_ok() {
        let _ = all_written.recv_timeout(LAST_LINES);
    }
}

fn writer(to: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .buffered_lines_limit(MAX_LINES)
        .thread_name("log")
        .finish(to)
}

/// Shows what is counted of the log.
pub(crate) fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(Dropped));
}

// === impl Log ===

impl Drop for Log {
    fn drop(&mut self) {
        finish();
    }
}

// === impl Dropped ===

impl Collector for Dropped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let lines = DROPPED.get().map_or(0, ErrorCounter::dropped_lines);
        let counter = ConstCounter::new(u64::try_from(lines).unwrap_or(u64::MAX));
        let help = "Lines of the log that were dropped because nobody took them";
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

    /// Takes nothing before it is told to.
    struct Shut(Receiver<()>);

    impl Write for Shut {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            // It opens by the end of the test.
            let _ = self.0.recv();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn where_a_panic_was_is_said_whatever_else_is_not() {
        for text in ["", "off", "worker=debug"] {
            let filter = directives(text).unwrap();
            assert!(filter.would_enable("panic", &tracing::Level::ERROR), "{text}");
            assert!(!filter.would_enable("rskafka", &tracing::Level::ERROR), "{text}");
        }
    }

    #[test]
    fn what_nobody_takes_is_dropped_and_counted() {
        let (open, shut) = mpsc::channel();
        let (mut writer, guard) = writer(Shut(shut));
        let (excess, held) = (10, 1);
        for _ in 0..MAX_LINES + excess + held {
            writer.write_all(b"line\n").unwrap();
        }
        // One may have been taken out already, to be written.
        let dropped = writer.error_counter().dropped_lines();
        assert!((excess..=excess + held).contains(&dropped), "{dropped}");
        drop((open, guard));
    }
}
