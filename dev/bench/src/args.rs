//! The command line.
//!
//! A bad value ends the program with one line that names the flag, the value and what is allowed, and with exit code 64
//! (`EX_USAGE` of sysexits.h).

use bench::{Connections, Load, Mode, RequestKind, Until};
use clap::{ArgGroup, CommandFactory, FromArgMatches, Parser};
use std::{
    ffi::OsString, fmt::Display, io::Write, net::SocketAddr, path::PathBuf, process::ExitCode, str::FromStr,
    time::Duration,
};

const USAGE: u8 = 64;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Sends requests to the gateway, checks every response, and reports throughput and latency.
///
/// Without --rate the loop is closed: each connection sends its next request after the response to the last one. With
/// --rate it is open: requests are due at fixed instants, and latency counts from there, so a slow server does not
/// reduce the rate.
///
/// The exit code is 0 for success, 1 if a response was wrong or none was right, 64 for a bad command line, and 130 after
/// Ctrl-C, which shows the report so far.
#[derive(Debug, Parser)]
#[command(name = "bench", version, group = ArgGroup::new("until"))]
pub(crate) struct Args {
    /// Where the gateway listens; loopback only
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = loopback)]
    target: SocketAddr,

    /// Number of connections; 64 without --rate
    #[arg(long, short, value_name = "N", value_parser = between(1_usize, 60_000, "connections"))]
    connections: Option<usize>,

    /// Open loop: requests per second. Without --connections, as many are opened as it takes
    #[arg(long, short, value_name = "R", value_parser = between(0.001, 1e6, "requests per second"))]
    rate: Option<f64>,

    /// The most connections that --rate opens on demand
    #[arg(long, value_name = "N", default_value = "4096", value_parser = between(1_usize, 60_000, "connections"),
          requires = "rate", conflicts_with = "connections")]
    max_connections: usize,

    /// How long to measure
    #[arg(long, short, value_name = "TIME", default_value = "10s", group = "until",
          value_parser = time(Duration::from_millis(1), DAY))]
    duration: Duration,

    /// How many requests to measure, instead of --duration
    #[arg(long, short = 'n', value_name = "N", group = "until",
          value_parser = between(1_u64, 100_000_000_000, "requests"))]
    requests: Option<u64>,

    /// How long to send before measuring; wrong responses count here as well
    #[arg(long, short, value_name = "TIME", default_value = "0s", value_parser = time(Duration::ZERO, DAY))]
    warmup: Duration,

    /// How long a request may take
    #[arg(long, value_name = "TIME", default_value = "15s",
          value_parser = time(Duration::from_millis(1), Duration::from_secs(3600)))]
    timeout: Duration,

    /// GET /ping instead of POST with unique values; responses then differ by their ids only
    #[arg(long, conflicts_with = "body_bytes")]
    get: bool,

    /// Pads the value so that the body of each request has this many bytes
    #[arg(long, value_name = "N", value_parser = between(RequestKind::MIN_BODY_BYTES, 16 << 20, "bytes"))]
    body_bytes: Option<usize>,

    /// Also writes the report as JSON; `-` writes it to stdout, and the text to stderr
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

// === impl Args ===

impl Args {
    /// Parses a command line. After an error the message is printed and the exit code returned.
    pub(crate) fn read(line: impl IntoIterator<Item = OsString>) -> Result<Self, ExitCode> {
        Self::parse_line(line).map_err(|error| {
            // A closed stderr or stdout is no error.
            if error.use_stderr() {
                let _ = writeln!(std::io::stderr(), "bench: {}", one_line(&error));
                ExitCode::from(USAGE)
            } else {
                let _ = error.print();
                ExitCode::SUCCESS
            }
        })
    }

    fn parse_line(line: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::from_arg_matches(&Self::command().try_get_matches_from(line)?)
    }

    pub(crate) fn load(&self) -> Load {
        let mode = match (self.rate, self.connections) {
            (None, connections) => Mode::Closed {
                connections: connections.unwrap_or(64),
            },
            (Some(rate), Some(n)) => Mode::Open {
                rate,
                connections: Connections::Fixed(n),
            },
            (Some(rate), None) => Mode::Open {
                rate,
                connections: Connections::UpTo(self.max_connections),
            },
        };
        Load {
            request: if self.get {
                RequestKind::Get
            } else {
                RequestKind::Post {
                    body_bytes: self.body_bytes,
                }
            },
            until: self.requests.map_or(Until::Elapsed(self.duration), Until::Requests),
            warmup: self.warmup,
            timeout: self.timeout,
            ..Load::new(self.target, mode)
        }
    }
}

/// The first paragraph of clap's message; usage and tips are in `--help`.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let paragraph = text
        .lines()
        .take_while(|line| !line.is_empty())
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(" ");
    paragraph.strip_prefix("error: ").unwrap_or(&paragraph).to_owned()
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let numeric = text
        .strip_prefix("localhost:")
        .map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    numeric
        .parse::<SocketAddr>()
        .ok()
        .filter(|target| target.ip().to_canonical().is_loopback() && target.port() != 0)
        .ok_or_else(|| "allowed: a loopback address and a port, such as 127.0.0.1:8080".to_owned())
}

fn between<T>(low: T, high: T, unit: &'static str) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + PartialOrd + Display + Copy,
{
    move |text| match text.parse() {
        Ok(number) if number >= low && number <= high => Ok(number),
        _ => Err(format!("allowed: {low} to {high} {unit}")),
    }
}

fn time(low: Duration, high: Duration) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    move |text| match humantime::parse_duration(text) {
        Ok(time) if time >= low && time <= high => Ok(time),
        _ => Err(format!(
            "allowed: {} to {}, such as 500ms or 10s",
            humantime::format_duration(low),
            humantime::format_duration(high),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::parse_line(
            std::iter::once("bench")
                .chain(line.split_whitespace())
                .map(OsString::from),
        )
    }

    #[test]
    fn command_passes_claps_debug_asserts() {
        Args::command().debug_assert();
    }

    #[test]
    fn rate_selects_the_open_loop() {
        let mode = |line| parse(line).unwrap().load().mode;
        assert_eq!(mode(""), Mode::Closed { connections: 64 });
        assert_eq!(mode("-c 3"), Mode::Closed { connections: 3 });
        assert_eq!(
            mode("--rate 10 -c 3"),
            Mode::Open {
                rate: 10.0,
                connections: Connections::Fixed(3)
            }
        );
        assert_eq!(
            mode("--rate 10"),
            Mode::Open {
                rate: 10.0,
                connections: Connections::UpTo(4096)
            }
        );
        assert_eq!(
            mode("--rate 10 --max-connections 5"),
            Mode::Open {
                rate: 10.0,
                connections: Connections::UpTo(5)
            }
        );
    }

    #[test]
    fn duration_and_requests_exclude_each_other() {
        let until = |line| parse(line).map(|args| args.load().until);
        assert_eq!(until("").unwrap(), Until::Elapsed(Duration::from_secs(10)));
        assert_eq!(
            until("--duration 3m").unwrap(),
            Until::Elapsed(Duration::from_secs(180))
        );
        assert_eq!(until("--requests 9").unwrap(), Until::Requests(9));
        assert!(until("--requests 9 --duration 1s").is_err());
    }

    #[test]
    fn bad_value_is_one_line_with_flag_value_and_allowed_range() {
        for (line, parts) in [
            (
                "--target 10.0.0.1:80",
                ["--target", "'10.0.0.1:80'", "allowed: a loopback address"],
            ),
            (
                "--target localhost",
                ["--target", "'localhost'", "allowed: a loopback address"],
            ),
            (
                "--connections 0",
                ["--connections", "'0'", "allowed: 1 to 60000 connections"],
            ),
            (
                "--rate fast",
                ["--rate", "'fast'", "allowed: 0.001 to 1000000 requests per second"],
            ),
            (
                "--rate NaN",
                ["--rate", "'NaN'", "allowed: 0.001 to 1000000 requests per second"],
            ),
            ("--duration 10", ["--duration", "'10'", "allowed: 1ms to 1day, such as"]),
            ("--timeout 0s", ["--timeout", "'0s'", "allowed: 1ms to 1h, such as"]),
            (
                "--body-bytes 5",
                ["--body-bytes", "'5'", "allowed: 68 to 16777216 bytes"],
            ),
            (
                "--get --body-bytes 100",
                ["--get", "--body-bytes", "cannot be used with"],
            ),
            ("--max-connections 5", ["not provided", "--rate", ""]),
            ("--fast", ["'--fast'", "unexpected", ""]),
        ] {
            let text = one_line(&parse(line).unwrap_err());
            assert!(parts.iter().all(|part| text.contains(part)), "{line}: {text}");
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }

    #[test]
    fn localhost_is_a_target() {
        assert_eq!(
            parse("--target localhost:81").unwrap().load().target.to_string(),
            "127.0.0.1:81"
        );
        assert_eq!(
            parse("--target [::1]:81").unwrap().load().target.to_string(),
            "[::1]:81"
        );
    }
}
