//! `gateway check FILE`: says what is wrong with a file of routes, prints its table, and asks the cluster for the topics.

use std::{fmt::Write as _, io, path::PathBuf, process::ExitCode};

use kafka::{Cluster, Security, TopicDescription};
use shared::{
    config::{EX_USAGE, Partitions},
    error_chain::ErrorChain,
    headers::Dialect,
};

use crate::{
    Settings,
    http_request::MAX_HEADER_BYTES,
    reply_address::ReplyPartition,
    routes::{Contract, MAX_PATH_BYTES, Route, Routes},
};

/// What a record has beside the body, at most: forwarded headers, path, parameters, and the headers of the gateway.
const MAX_HEAD_BYTES: usize = MAX_HEADER_BYTES + 3 * MAX_PATH_BYTES + 4096;

/// What to check.
#[derive(Debug, Clone, clap::Args)]
pub struct Check {
    /// The file of routes
    pub file: PathBuf,

    /// Ask the cluster for the topics as well
    #[arg(long)]
    pub cluster: bool,
}

/// Checks, and prints. The exit code is 0, or 64 for a file with problems, or 1 for a cluster with some.
pub(crate) fn run(check: &Check, settings: &Settings) -> ExitCode {
    let routes = match Routes::read(&check.file, &settings.defaults()) {
        Ok(routes) => routes,
        Err(problems) => {
            print(&mut io::stderr(), &problems);
            return ExitCode::from(EX_USAGE);
        }
    };
    print(&mut io::stdout(), table(&routes).trim_end());
    if !check.cluster {
        return ExitCode::SUCCESS;
    }
    let security = match Security::new(&settings.common.kafka) {
        Ok(security) => security,
        Err(problem) => {
            print(&mut io::stderr(), &problem);
            return ExitCode::from(EX_USAGE);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else {
        print(&mut io::stderr(), "cannot start the runtime");
        return ExitCode::FAILURE;
    };
    let (lines, problems) = runtime.block_on(ask(&routes, settings, security));
    print(&mut io::stdout(), &format!("\n{}", lines.join("\n")));
    if problems.is_empty() {
        return ExitCode::SUCCESS;
    }
    print(&mut io::stderr(), &problems.join("\n"));
    ExitCode::FAILURE
}

fn print(to: &mut dyn io::Write, text: &str) {
    // An error means that the stream is closed.
    let _ = writeln!(to, "{text}");
}

/// One line a route, in columns.
fn table(routes: &Routes) -> String {
    let head = [
        "ON",
        "TOPIC",
        "REPLY",
        "KEY",
        "TIMEOUT",
        "MAX_IN_FLIGHT",
        "MAX_BODY",
        "DIALECT",
    ]
    .map(str::to_owned);
    let rows = routes.list.iter().map(|route| {
        [
            route.on.clone(),
            route.topic.clone(),
            route.reply_topic.clone().unwrap_or_else(|| "none".to_owned()),
            route.key.as_ref().map_or("id".to_owned(), ToString::to_string),
            format!("{:?}", route.timeout),
            route.max_in_flight.to_string(),
            bytesize::ByteSize(u64::try_from(route.max_body).unwrap_or(u64::MAX)).to_string(),
            format!("{:?}", route.dialect).to_lowercase(),
        ]
    });
    let rows: Vec<_> = [head].into_iter().chain(rows).collect();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<_> = (0..8).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// A line for each topic, and the problems.
async fn ask(routes: &Routes, settings: &Settings, security: Security) -> (Vec<String>, Vec<String>) {
    let brokers = settings.common.kafka.kafka_brokers.clone();
    let cluster = Cluster::new("gateway-check", brokers, security, Vec::new());
    let (mut lines, mut problems) = (Vec::new(), Vec::new());
    for first in routes.topics() {
        match cluster.describe_topic(&first.topic).await {
            Ok(topic) => {
                let size = topic
                    .max_message_bytes
                    .map_or("unknown".to_owned(), |bytes| bytes.to_string());
                let may = if topic.can_write { "may write" } else { "may not write" };
                lines.push(format!(
                    "topic {}: {}, {may}, max.message.bytes {size}",
                    first.topic,
                    count(topic.partitions)
                ));
                let of_topic = routes.list.iter().filter(|route| route.topic == first.topic);
                of_topic.for_each(|route| check_route(route, topic, &mut problems));
            }
            Err(error) => problems.push(format!("topic {}: {}", first.topic, ErrorChain(&error))),
        }
    }
    for name in routes.reply_topics() {
        match cluster.describe_topic(name).await {
            Ok(topic) => {
                let may = if topic.can_read { "may read" } else { "may not read" };
                lines.push(format!("reply topic {name}: {}, {may}", count(topic.partitions)));
                if !topic.can_read {
                    problems.push(format!("reply topic {name}: this user may not read it"));
                }
                if let ReplyPartition::Fixed(number) = settings.reply_partition
                    && usize::try_from(number).is_ok_and(|number| number >= topic.partitions)
                {
                    problems.push(format!(
                        "reply topic {name}: it has no partition {number} (REPLY_PARTITION)"
                    ));
                }
            }
            Err(error) => problems.push(format!("reply topic {name}: {}", ErrorChain(&error))),
        }
    }
    for route in &routes.list {
        if route.dialect == Dialect::None && route.contract == Contract::Http && route.reply_topic.is_some() {
            lines.push(format!(
                "note: {}: with dialect = \"none\" requests do not say that a caller waits: the worker of this project does \
                 not answer them",
                route.on
            ));
        }
    }
    (lines, problems)
}

fn count(partitions: usize) -> String {
    format!("{partitions} partition{}", if partitions == 1 { "" } else { "s" })
}

/// What the topic says against a route.
fn check_route(route: &Route, topic: TopicDescription, problems: &mut Vec<String>) {
    if !topic.can_write {
        problems.push(format!(
            "{}: this user may not write to topic {}",
            route.on, route.topic
        ));
    }
    if let Some(max) = topic.max_message_bytes
        && route.max_body + MAX_HEAD_BYTES > max
    {
        problems.push(format!(
            "{}: a body of max_body ({} bytes) and its headers may exceed max.message.bytes ({max}) of topic {}",
            route.on, route.max_body, route.topic
        ));
    }
    if let Partitions::Listed(listed) = &route.partitions {
        let missing = listed
            .iter()
            .filter(|number| usize::try_from(**number).is_ok_and(|number| number >= topic.partitions));
        for number in missing {
            problems.push(format!("{}: topic {} has no partition {number}", route.on, route.topic));
        }
    }
}
