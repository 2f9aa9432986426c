//! Handles the outcome of the records that the worker produces: acknowledges offsets and counts replies.

use kafka::{DeliveryCallback, DeliveryResult, InFlightOffset};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::metrics::Metrics;

/// What a record carries until its outcome is known.
#[derive(Debug)]
pub(crate) enum DeliveryToken {
    /// A reply: the offset of its request.
    Reply(InFlightOffset),
    /// A heartbeat: the permit that keeps the next one for the same partition back.
    Heartbeat(OwnedSemaphorePermit),
    /// A dead letter: who waits for its acknowledgement. Dropped, it is not acknowledged.
    DeadLetter(oneshot::Sender<bool>),
}

/// The callback of all producers of the worker.
#[derive(Debug, Clone)]
pub(crate) struct ReplyDelivery(pub(crate) Metrics);

// === impl DeliveryToken ===

impl DeliveryToken {
    /// The record was rejected before it was queued.
    pub(crate) fn reject(self) {
        self.complete(false);
    }

    /// Acknowledges the request, or returns the permit, whatever the outcome was. A dead letter needs to know it.
    fn complete(self, is_acknowledged: bool) {
        match self {
            Self::Reply(in_flight) => in_flight.ack(),
            Self::Heartbeat(permit) => drop(permit),
            // An error means that the request was given up.
            Self::DeadLetter(delivered) => _ = delivered.send(is_acknowledged),
        }
    }
}

// === impl ReplyDelivery ===

impl DeliveryCallback for ReplyDelivery {
    type Token = DeliveryToken;

    fn on_delivery(&self, tokens: Vec<DeliveryToken>, result: DeliveryResult) {
        let replies = tokens.iter().filter(|token| matches!(token, DeliveryToken::Reply(_)));
        let count = u64::try_from(replies.count()).unwrap_or(u64::MAX);
        match result {
            DeliveryResult::Acknowledged => _ = self.0.acknowledged.inc_by(count),
            // A failed reply is not sent again: its delivery timeout has passed, or the broker has rejected it for good.
            DeliveryResult::NotSent | DeliveryResult::Refused | DeliveryResult::Unknown => {
                _ = self.0.refused.inc_by(count)
            }
        }
        let is_acknowledged = result == DeliveryResult::Acknowledged;
        tokens.into_iter().for_each(|token| token.complete(is_acknowledged));
    }
}
