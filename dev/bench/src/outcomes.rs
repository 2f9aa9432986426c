//! What became of requests, counted.

use crate::answer::Wrong;
use std::collections::BTreeMap;

/// How often each outcome was seen. Each request has exactly one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// The right answer.
    pub ok: u64,
    /// A status 200 that is not the answer to this request, or no HTTP at all.
    pub wrong: BTreeMap<Wrong, u64>,
    /// Responses with a status other than 200, by status.
    pub statuses: BTreeMap<u16, u64>,
    /// No connection, or one that was closed before the response was complete.
    pub connection_errors: u64,
    /// Sent, and no complete response within the timeout.
    pub timeouts: u64,
    /// Open loop only: not sent, since no connection was free within the timeout.
    pub unsent: u64,
}

// === impl Outcomes ===

impl Outcomes {
    /// All wrong answers together.
    pub fn wrong_total(&self) -> u64 {
        self.wrong.values().sum()
    }

    /// All requests.
    pub fn total(&self) -> u64 {
        self.ok
            + self.wrong_total()
            + self.statuses.values().sum::<u64>()
            + self.connection_errors
            + self.timeouts
            + self.unsent
    }
}
