//! Sends the reply to a request where its headers say.

use kafka::InFlightOffset;
use shared::headers::ReplyTo;

use crate::{Request, delivery::DeliveryToken, handler::Outcome, reply_producers::ReplyProducers, skipped::Skipped};

/// Queues the reply. The request is acknowledged with the delivery of the reply, or at once if there is none.
///
/// # Errors
/// Why there is no reply.
pub(crate) async fn send_reply(
    producers: &ReplyProducers,
    request: &Request,
    reply_to: ReplyTo<'_>,
    outcome: Outcome,
    in_flight: InFlightOffset,
    is_wanted: impl Fn() -> bool,
) -> Result<(), Skipped> {
    let reply = outcome.unwrap_or_else(|failure| failure.to_reply().with_headers_of_failure(&failure, reply_to));
    let record = reply.into_record(request.key(), reply_to);
    let token = DeliveryToken::Reply(in_flight);
    let sent = producers.send(reply_to.address, record, token, is_wanted).await;
    sent.map_err(|cause| {
        let (topic, partition) = reply_to.address.unwrap_or_default();
        Skipped::Rejected {
            partition: format!("{topic}/{partition}"),
            cause,
        }
    })
}
