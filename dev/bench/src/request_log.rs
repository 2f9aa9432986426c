//! A log of all requests of a run with their instants, for tests that look at windows of time.
//!
//! It can be read during the run. [`RequestLog::close`] ends the run: no new request is sent, and the run waits for the
//! responses in flight.

use crate::outcome::Outcome;
use parking_lot::Mutex;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::time::Instant;

/// The completed requests of one run. Clones share the log.
#[derive(Debug, Clone, Default)]
pub struct RequestLog(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    entries: Mutex<Vec<RequestEntry>>,
    is_closed: AtomicBool,
}

/// One request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RequestEntry {
    /// In the open loop it may be before `sent`: all connections were busy.
    pub due: Instant,
    /// The beginning of the connect, if the request needed one.
    pub sent: Instant,
    /// When the outcome was known.
    pub ended: Instant,
    /// What became of the request.
    pub outcome: Outcome,
}

// === impl RequestLog ===

impl RequestLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// The requests completed so far, in the order of completion.
    pub fn entries(&self) -> Vec<RequestEntry> {
        self.0.entries.lock().clone()
    }

    /// Ends the run.
    pub fn close(&self) {
        self.0.is_closed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed.load(Ordering::Relaxed)
    }

    pub(crate) fn push(&self, entry: RequestEntry) {
        self.0.entries.lock().push(entry);
    }
}
