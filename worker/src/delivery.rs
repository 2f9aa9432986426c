//! What becomes of what the worker writes.

use kafka::{DeliveryCallback, DeliveryResult, InFlightOffset};
use tokio::sync::OwnedSemaphorePermit;

use crate::metrics::Metrics;

/// What was written.
#[derive(Debug)]
pub(crate) enum Written {
    /// The reply to a request.
    Reply(InFlightOffset),
    /// An heartbeat; until it is on_delivery there is no other for the same place.
    Heartbeat(OwnedSemaphorePermit),
}

/// Counts the replies, and says which requests are done with them.
#[derive(Debug, Clone)]
pub(crate) struct ReplyDelivery(pub(crate) Metrics);

// === impl Written ===

impl Written {
    /// It is on_delivery, in whatever way.
    pub(crate) fn done(self) {
        match self {
            Self::Reply(open) => open.ack(),
            Self::Heartbeat(permit) => drop(permit),
        }
    }
}

// === impl ReplyDelivery ===

impl DeliveryCallback for ReplyDelivery {
    type Token = Written;

    fn on_delivery(&self, written: Vec<Written>, result: DeliveryResult) {
        let replies = written.iter().filter(|it| matches!(it, Written::Reply(_)));
        let count = u64::try_from(replies.count()).unwrap_or(u64::MAX);
        match result {
            DeliveryResult::Acknowledged => _ = self.0.acknowledged.inc_by(count),
            // Replies are sent again until Kafka takes them or says that it never will, or nobody can want them any more.
            DeliveryResult::Failed | DeliveryResult::Unknown => _ = self.0.refused.inc_by(count),
        }
        written.into_iter().for_each(Written::done);
    }
}
