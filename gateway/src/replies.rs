//! The reply loop: from the tail of `pong` to the callers. Nothing in it can wait for a caller.

use std::convert::Infallible;

use kafka::{Received, Tail};
use shared::wire;
use tokio::{task::yield_now, time::Instant};
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::{
    answers::Refusal,
    liveness::{Heard, Liveness},
    metrics::ReplyMetrics,
    pending::{Found, Outcome, Pending},
};

/// Bytes of a service's error that are logged.
const SHOWN_BYTES: usize = 1024;

/// Reads replies for ever. Callers are admitted once the start is fixed.
pub(crate) async fn run(mut tail: Tail, pending: Pending, metrics: ReplyMetrics) -> Infallible {
    tail.fixed().await;
    pending.admit();
    let mut liveness = Liveness::default();
    let mut deserted = false;
    loop {
        let mut heard = Heard::Nothing;
        let batch = tail.next().await;
        let replies = batch.records.into_iter().filter_map(|record| {
            let Some(id) = wire::correlation(record.headers(), record.key()) else {
                if wire::is_announcement(record.key()) {
                    heard = Heard::Announcement;
                    metrics.announcement.inc();
                } else {
                    metrics.malformed.inc();
                }
                return None;
            };
            Some((id, outcome(id, record)))
        });
        let mut answered = false;
        pending.reply(replies, |found| {
            answered |= found != Found::Nobody;
            match found {
                Found::Waiting => metrics.answered.inc(),
                Found::Answered => metrics.duplicate.inc(),
                Found::GivenUp | Found::Left => metrics.late.inc(),
                Found::Nobody => metrics.foreign.inc(),
            };
        });
        if answered {
            heard = heard.max(Heard::Replies);
        }
        if heard > Heard::Nothing || batch.at_end {
            liveness.listen(heard, Instant::now());
        } else {
            liveness.pass(Instant::now());
        }
        if std::mem::replace(&mut deserted, liveness.is_deserted()) != deserted {
            pending.set_deserted(deserted);
            if deserted {
                warn!("no worker has been heard of for a while: callers are told so");
            } else {
                info!("a worker is there again");
            }
        }
        // The callers are answered before more is asked for.
        yield_now().await;
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
