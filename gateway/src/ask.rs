//! `gateway ask TOPIC`: sends one request through Kafka as the gateway would, waits for the reply, and says in words what came.
//!
//! It reads all partitions where a misplaced reply is likely, and creates no topic.

use std::{io, process::ExitCode, time::Duration};

use kafka::Security;
use shared::{
    config::{EX_USAGE, positive_duration, topic},
    process::Settings as _,
};

use self::request::Request;
use crate::Settings;

mod answer;
mod consumers;
mod exchange;
mod findings;
mod request;

/// The exit code when no usable reply came.
const NO_REPLY: u8 = 2;

/// What `--help` prints last.
const HELP: &str = "\
The settings are those of the gateway, as variables or flags. No topic is created.

Exit codes:
  0   a usable reply came, whatever its status; or the record is stored, with reply = false
  1   the request was not sent: Kafka, a topic or a right is missing
  2   no usable reply came; stderr says what came instead
  64  a bad command line, setting or file of routes

Examples:
  gateway ask orders --path /orders --data '{\"sku\":\"a\"}'
  gateway ask customers --path /customers/7 -H 'x-user: ann' --timeout 2s
  ROUTES=routes.toml gateway ask orders --kafka-brokers localhost:9092 --group orders";

/// What to ask.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = HELP)]
pub struct Ask {
    /// Topic that the service reads
    #[arg(value_parser = topic)]
    pub topic: String,

    /// Path with the query [default: of the first route to the topic; without one, /TOPIC]
    #[arg(long)]
    pub path: Option<String>,

    /// Method [default: POST with data, else GET, or what the route has]
    #[arg(long, short = 'X')]
    pub method: Option<String>,

    /// Header such as 'x-user: ann'; may be repeated
    #[arg(long = "header", short = 'H', value_name = "HEADER")]
    pub headers: Vec<String>,

    /// Body
    #[arg(long, short = 'd')]
    pub data: Option<String>,

    /// Key of the record [default: by the route, or the correlation id]
    #[arg(long)]
    pub key: Option<String>,

    /// How long to wait for the reply [default: of the route, or `REPLY_TIMEOUT`]
    #[arg(long, value_parser = positive_duration)]
    pub timeout: Option<Duration>,

    /// Group of the service, to tell its lag [default: those that heartbeats name]
    #[arg(long)]
    pub group: Option<String>,

    /// More topics to look for a misplaced reply in, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = topic)]
    pub also_read: Vec<String>,
}

/// How it ends.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// The text of the answer.
    Answered(String),
    /// What came instead of a usable reply.
    NoReply(Vec<String>),
    /// Why the request was not sent.
    NotSent(String),
    /// What is wrong with the command line, the settings or the routes.
    Usage(String),
}

/// Asks, and prints. [`HELP`] has the exit codes.
pub(crate) fn run(ask: &Ask, settings: &Settings) -> ExitCode {
    match outcome(ask, settings) {
        Outcome::Answered(text) => {
            print(&mut io::stdout(), &text);
            ExitCode::SUCCESS
        }
        Outcome::NoReply(lines) => {
            print(&mut io::stderr(), &lines.join("\n"));
            ExitCode::from(NO_REPLY)
        }
        Outcome::NotSent(cause) => {
            print(&mut io::stderr(), &cause);
            ExitCode::FAILURE
        }
        Outcome::Usage(text) => {
            print(&mut io::stderr(), &text);
            ExitCode::from(EX_USAGE)
        }
    }
}

fn outcome(ask: &Ask, settings: &Settings) -> Outcome {
    let prepared = settings.validate().and_then(|()| {
        let routes = settings.read_routes()?;
        let request = Request::new(ask, &routes, settings)?;
        Ok((request, Security::new(&settings.common.kafka)?))
    });
    let (request, security) = match prepared {
        Ok(prepared) => prepared,
        Err(problem) => return Outcome::Usage(problem),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else {
        return Outcome::NotSent("cannot start the runtime".to_owned());
    };
    let outcome = runtime.block_on(exchange::run(ask, settings, &request, security));
    // Dropping the runtime would wait for blocking tasks, such as a DNS lookup of a broker without an answer.
    runtime.shutdown_background();
    outcome
}

fn print(to: &mut dyn io::Write, text: &str) {
    // An error means that the stream is closed.
    let _ = writeln!(to, "{text}");
}
