//! The reply loop: from the tail of `pong` to the callers. Nothing in it can wait for a caller.

use shared::kafka::{Received, Tail};
use uuid::Uuid;

use crate::{
    metrics::ReplyMetrics,
    pending::{Found, Pending},
};

/// Reads replies for ever. Callers are admitted once the start is fixed.
pub(crate) async fn run(mut tail: Tail, pending: Pending, metrics: ReplyMetrics) {
    tail.fixed().await;
    pending.admit();
    loop {
        let replies = tail.next().await.records.into_iter().filter_map(|record| {
            let id = correlation_id(&record);
            if id.is_none() {
                metrics.malformed.inc();
            }
            Some((id?, Ok(record.into_value().unwrap_or_default())))
        });
        pending.resolve(replies, |found| match found {
            Found::Waiting => _ = metrics.answered.inc(),
            Found::Resolved => _ = metrics.duplicate.inc(),
            Found::Nobody => _ = metrics.unknown.inc(),
        });
    }
}

/// The key, if it is what we wrote: 36 ASCII characters of a UUID. (Shorter forms of one are somebody else's.)
fn correlation_id(record: &Received) -> Option<Uuid> {
    let key = record.key().filter(|it| it.len() == 36)?;
    Uuid::try_parse_ascii(key).ok()
}
