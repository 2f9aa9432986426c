//! What became of a request, and how often.

use serde::Serialize;
use std::collections::BTreeMap;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The right response.
    Ok,
    /// A response with status 200 to another request, or no HTTP response.
    Wrong(Wrong),
    /// A response with another status.
    Status(u16),
    /// The connect failed.
    NoConnection,
    /// The server closed the connection before the response was complete.
    ConnectionClosed,
    /// No complete response within the timeout.
    Timeout,
    /// Open loop only: no connection was free within the timeout.
    Unsent,
}

/// What is wrong with a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    /// Well-formed, but with name and value of another request.
    Foreign,
    /// The id of an earlier response.
    Repeated,
    /// A body of another form, or a response that the HTTP parser rejects.
    Malformed,
    /// The right body with another content type.
    ContentType,
    /// Bytes after the end of the response, or before the request.
    Surplus,
}

/// How often each outcome occurred. Each request has exactly one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct OutcomeCounts {
    /// [`Outcome::Ok`]
    pub ok: u64,
    /// [`Outcome::Wrong`]
    pub wrong: BTreeMap<Wrong, u64>,
    /// [`Outcome::Status`]
    pub statuses: BTreeMap<u16, u64>,
    /// [`Outcome::NoConnection`] and [`Outcome::ConnectionClosed`]
    pub connection_errors: u64,
    /// [`Outcome::Timeout`]
    pub timeouts: u64,
    /// [`Outcome::Unsent`]
    pub unsent: u64,
}

// === impl OutcomeCounts ===

impl OutcomeCounts {
    pub(crate) fn add(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Ok => &mut self.ok,
            Outcome::Wrong(wrong) => self.wrong.entry(wrong).or_default(),
            Outcome::Status(status) => self.statuses.entry(status).or_default(),
            Outcome::NoConnection | Outcome::ConnectionClosed => &mut self.connection_errors,
            Outcome::Timeout => &mut self.timeouts,
            Outcome::Unsent => &mut self.unsent,
        } += 1;
    }

    /// All wrong responses.
    pub fn wrong_total(&self) -> u64 {
        self.wrong.values().sum()
    }

    /// All requests.
    pub fn total(&self) -> u64 {
        let errors = self.connection_errors + self.timeouts + self.unsent;
        self.ok + self.wrong_total() + self.statuses.values().sum::<u64>() + errors
    }
}
