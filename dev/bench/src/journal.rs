//! What became of each request of a run, and when: for whoever looks at windows of time rather than at totals.
//!
//! It can be read while the run goes on, and closing it ends the run in an orderly way: no request is begun any more, and
//! those under way are seen through.

use crate::{answer::Wrong, tally::Outcome};
use parking_lot::Mutex;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::time::Instant;

/// The requests of one run that have ended. Clones are the same journal.
#[derive(Debug, Clone, Default)]
pub struct Journal(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    entries: Mutex<Vec<Entry>>,
    closed: AtomicBool,
}

/// One request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry {
    /// When it was due. In the open loop that may be before it was sent: all connections were busy.
    pub due: Instant,
    /// When it was sent, a connect included.
    pub sent: Instant,
    /// When it was known what became of it.
    pub ended: Instant,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// The right answer.
    Ok,
    /// A status 200 that is not the answer to this request, or no HTTP at all.
    Wrong(Wrong),
    /// Another status.
    Status(u16),
    /// No connection came about.
    NoConnection,
    /// The connection was closed before the response was complete.
    Cut,
    /// No complete response within the timeout.
    Timeout,
    /// Open loop only: not sent, since no connection was free within the timeout.
    SendError,
}

// === impl Journal ===

impl Journal {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// What has ended so far, in the order of the ends.
    pub fn entries(&self) -> Vec<Entry> {
        self.0.entries.lock().clone()
    }

    /// Ends the run.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Relaxed)
    }

    pub(crate) fn enter(&self, entry: Entry) {
        self.0.entries.lock().push(entry);
    }
}

// === impl Fate ===

impl Fate {
    pub(crate) fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Ok(_) => Self::Ok,
            Outcome::Wrong(wrong, _) => Self::Wrong(*wrong),
            Outcome::Status(status) => Self::Status(*status),
            Outcome::NoConnection(_) => Self::NoConnection,
            Outcome::ConnectionError(_) => Self::Cut,
            Outcome::Timeout => Self::Timeout,
            Outcome::SendError => Self::SendError,
        }
    }
}
