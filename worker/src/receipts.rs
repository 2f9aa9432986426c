//! What becomes of what the worker writes.

use kafka::{Fate, Open, Receipts};
use tokio::sync::OwnedSemaphorePermit;

use crate::metrics::Metrics;

/// What was written.
#[derive(Debug)]
pub(crate) enum Written {
    /// The reply to a request.
    Reply(Open),
    /// An announcement; until it is settled there is no other for the same place.
    Announcement(OwnedSemaphorePermit),
}

/// Counts the replies, and says which requests are done with them.
#[derive(Debug, Clone)]
pub(crate) struct ReplyReceipts(pub(crate) Metrics);

// === impl Written ===

impl Written {
    /// It is settled, in whatever way.
    pub(crate) fn done(self) {
        match self {
            Self::Reply(open) => open.done(),
            Self::Announcement(permit) => drop(permit),
        }
    }
}

// === impl ReplyReceipts ===

impl Receipts for ReplyReceipts {
    type Tag = Written;

    fn settled(&self, written: Vec<Written>, fate: Fate) {
        let replies = written.iter().filter(|it| matches!(it, Written::Reply(_)));
        let count = u64::try_from(replies.count()).unwrap_or(u64::MAX);
        match fate {
            Fate::Acknowledged => _ = self.0.acknowledged.inc_by(count),
            // Replies are sent again until Kafka takes them or says that it never will, or nobody can want them any more.
            Fate::Failed | Fate::Unknown => _ = self.0.refused.inc_by(count),
        }
        written.into_iter().for_each(Written::done);
    }
}
