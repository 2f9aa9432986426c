//! Sends the reply to a request where its headers say.

use kafka::{InFlightOffset, Record};
use shared::headers::ReplyTo;
use tokio::time::Instant;

use crate::{Request, delivery::DeliveryToken, handler::Outcome, reply_producers::ReplyProducers, skipped::Skipped};

/// A reply that was not queued: its producer is not open, closed, or full.
#[derive(Debug)]
pub(crate) struct UnsentReply {
    request: Request,
    /// Topic and partition; `None` is the default.
    address: Option<(String, i32)>,
    record: Record,
    token: DeliveryToken,
}

/// Queues the reply, or returns it if that cannot be done at once. The request is acknowledged with the delivery of the reply.
pub(crate) fn send_reply(
    producers: &ReplyProducers,
    request: &Request,
    reply_to: ReplyTo<'_>,
    outcome: Outcome,
    in_flight: InFlightOffset,
) -> Option<UnsentReply> {
    let reply = outcome.unwrap_or_else(|failure| failure.to_reply().with_headers_of_failure(&failure, reply_to));
    let record = reply.into_record(request.key(), reply_to);
    let unsent = producers.try_send(reply_to.address, record, DeliveryToken::Reply(in_flight));
    unsent.map(|(record, token)| UnsentReply {
        request: request.clone(),
        address: reply_to.address.map(|(topic, partition)| (topic.to_owned(), partition)),
        record,
        token,
    })
}

// === impl UnsentReply ===

impl UnsentReply {
    /// Queues the reply as soon as its producer is open and has room.
    ///
    /// # Errors
    /// Why there is no reply, and the request, which is acknowledged.
    pub(crate) async fn send(self, producers: &ReplyProducers) -> Result<(), (Skipped, Request)> {
        let Self {
            request,
            address,
            record,
            token,
        } = self;
        let address = address.as_ref().map(|(topic, partition)| (topic.as_str(), *partition));
        // By the time alone: nothing is known of the caller.
        let deadline = request.deadline();
        let is_wanted = || deadline.is_none_or(|deadline| Instant::now() < deadline);
        let sent = producers.send(address, record, token, is_wanted).await;
        sent.map_err(|cause| {
            let (topic, partition) = address.unwrap_or_default();
            let partition = format!("{topic}/{partition}");
            (Skipped::Rejected { partition, cause }, request)
        })
    }
}
