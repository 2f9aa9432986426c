//! The reply loop: from the tail of `pong` to the callers. Nothing in it can wait for a caller.

use shared::{
    kafka::{Received, Tail},
    wire,
};
use tracing::debug;
use uuid::Uuid;

use crate::{
    answers::Refusal,
    metrics::ReplyMetrics,
    pending::{Found, Outcome, Pending},
};

/// Bytes of a service's error that are logged.
const SHOWN_BYTES: usize = 1024;

/// Reads replies for ever. Callers are admitted once the start is fixed.
pub(crate) async fn run(mut tail: Tail, pending: Pending, metrics: ReplyMetrics) {
    tail.fixed().await;
    pending.admit();
    loop {
        let replies = tail.next().await.records.into_iter().filter_map(|record| {
            let Some(id) = wire::correlation(record.headers(), record.key()) else {
                metrics.malformed.inc();
                return None;
            };
            Some((id, outcome(id, record)))
        });
        pending.resolve(replies, |found| match found {
            Found::Waiting => _ = metrics.answered.inc(),
            Found::Resolved => _ = metrics.duplicate.inc(),
            Found::Nobody => _ = metrics.unknown.inc(),
        });
    }
}

/// What a reply says: its value, or that the service failed. How it failed is not for the caller.
fn outcome(id: Uuid, record: Received) -> Outcome {
    if let Some(error) = wire::failure(record.headers()) {
        let shown = error.get(..SHOWN_BYTES).unwrap_or(error);
        debug!(%id, error = %shown.escape_ascii(), "the service failed");
        return Err(Refusal::ServiceFailed);
    }
    Ok(record.into_value().unwrap_or_default())
}
