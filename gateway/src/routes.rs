//! The routes: which requests the gateway answers, and how each becomes a record. They come from the file that `ROUTES`
//! names, or from the embedded one, which has the one route `/ping`.
//!
//! Routes are read once, at the start: consumers, reply addresses and producers follow from them.

use std::{fs, path::Path, time::Duration};

use hyper::header::HeaderName;
use shared::{config::Partitions, headers::Dialect};

use crate::reply_address::ReplyPartition;

pub(crate) use self::{
    key::{KeyError, KeyTemplate},
    on::MAX_PATH_BYTES,
    router::{Match, Router},
};

mod conflicts;
mod file;
mod key;
mod on;
mod parse;
mod router;

/// The configuration without `ROUTES`.
const BUILT_IN: &str = include_str!("routes/default.toml");

/// What a user calls the embedded file.
const BUILT_IN_NAME: &str = "the built-in route";

/// All routes, and the router that finds them. Indices of routes are those of `list`.
#[derive(Debug)]
pub(crate) struct Routes {
    pub(crate) list: Vec<Route>,
    pub(crate) router: Router,
}

/// One `[[route]]` of the file, with the defaults put in.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    /// Methods and path, as the file has them.
    pub(crate) on: String,
    /// The names of the path's parameters, in their order.
    pub(crate) params: Vec<String>,
    pub(crate) topic: String,
    /// `None`: the caller gets no reply, only the acknowledgement of Kafka.
    pub(crate) reply_topic: Option<String>,
    /// `None`: the key is the correlation id.
    pub(crate) key: Option<KeyTemplate>,
    pub(crate) request_headers: Vec<HeaderName>,
    pub(crate) reply_headers: Vec<HeaderName>,
    pub(crate) timeout: Duration,
    pub(crate) max_in_flight: usize,
    /// In bytes.
    pub(crate) max_body: usize,
    pub(crate) partitions: Partitions,
    pub(crate) dialect: Dialect,
    pub(crate) contract: Contract,
}

/// How requests and replies are encoded, and which statuses errors have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contract {
    /// Bodies verbatim, the head of the request in record headers.
    Http,
    /// The fixed contract of `/ping`.
    Ping,
}

/// What a route has that does not say otherwise: the settings of the process.
#[derive(Debug, Clone)]
pub(crate) struct Defaults {
    pub(crate) reply_topic: String,
    pub(crate) timeout: Duration,
    pub(crate) max_in_flight: usize,
    pub(crate) max_body: usize,
    pub(crate) dialect: Dialect,
    /// Not of a route, but it decides which dialects are possible.
    pub(crate) reply_partition: ReplyPartition,
}

// === impl Routes ===

impl Routes {
    /// Reads a file of routes.
    ///
    /// # Errors
    /// Every problem of the file, one a line, each with its line and what is allowed.
    pub(crate) fn read(path: &Path, defaults: &Defaults) -> Result<Self, String> {
        let name = path.display().to_string();
        let source = fs::read_to_string(path).map_err(|error| format!("ROUTES: cannot read {name:?}: {error}"))?;
        parse::parse(&name, &source, defaults)
    }

    /// The one route without a file.
    ///
    /// # Errors
    /// When a setting does not suit it.
    pub(crate) fn built_in(topic: &str, partitions: &Partitions, defaults: &Defaults) -> Result<Self, String> {
        let source = BUILT_IN
            .replace("PING_TOPIC", topic)
            .replace("PONG_TOPIC", &defaults.reply_topic)
            .replace("REQUEST_PARTITIONS", &partitions.to_string());
        parse::parse(BUILT_IN_NAME, &source, defaults)
    }

    /// The distinct request topics, in the order of the file, each with its first route.
    pub(crate) fn topics(&self) -> Vec<&Route> {
        let mut topics: Vec<&Route> = Vec::new();
        for route in &self.list {
            if topics.iter().all(|other| other.topic != route.topic) {
                topics.push(route);
            }
        }
        topics
    }

    /// The distinct reply topics, in the order of the file.
    pub(crate) fn reply_topics(&self) -> Vec<&str> {
        let mut topics: Vec<&str> = Vec::new();
        for topic in self.list.iter().filter_map(|route| route.reply_topic.as_deref()) {
            if !topics.contains(&topic) {
                topics.push(topic);
            }
        }
        topics
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    pub(crate) fn defaults() -> Defaults {
        Defaults {
            reply_topic: "pong".to_owned(),
            timeout: Duration::from_secs(10),
            max_in_flight: 16_384,
            max_body: 65_536,
            dialect: Dialect::Common,
            reply_partition: ReplyPartition::Fixed(0),
        }
    }

    /// The routes of a file.
    pub(crate) fn routes(source: &str) -> Routes {
        parse::parse("routes.toml", source, &defaults()).unwrap()
    }

    /// A route of these keys to topic `a`.
    pub(crate) fn route(keys: &str) -> Route {
        routes(&format!("[[route]]\ntopic = 'a'\n{keys}\n")).list.remove(0)
    }
}

#[cfg(test)]
mod tests;
