//! The reply loop: from the consumer of `pong` to the callers. Nothing in it can wait for a caller.

use std::convert::Infallible;

use kafka::{ConsumedRecord, PartitionConsumer};
use shared::headers;
use tokio::{task::yield_now, time::Instant};
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::{
    in_flight::{InFlight, Outcome, ReplyMatch},
    metrics::ReplyMetrics,
    response::GatewayError,
    worker_presence::{Sign, WorkerPresence},
};

/// Bytes of a service's error that are logged.
const SHOWN_BYTES: usize = 1024;

/// Reads replies for ever. Callers are admitted once the start is fixed.
pub(crate) async fn run(mut consumer: PartitionConsumer, pending: InFlight, metrics: ReplyMetrics) -> Infallible {
    consumer.wait_for_start().await;
    pending.admit();
    let mut presence = WorkerPresence::default();
    let mut no_worker = false;
    loop {
        let mut sign = Sign::Nothing;
        let batch = consumer.poll().await;
        let replies = batch.records.into_iter().filter_map(|record| {
            let Some(id) = headers::correlation_id(record.headers(), record.key()) else {
                if headers::is_heartbeat(record.key()) {
                    sign = Sign::Heartbeat;
                    metrics.heartbeat.inc();
                } else {
                    metrics.malformed.inc();
                }
                return None;
            };
            Some((id, outcome(id, record)))
        });
        let mut answered = false;
        pending.reply(replies, |found| {
            answered |= found != ReplyMatch::Foreign;
            match found {
                ReplyMatch::Delivered => metrics.answered.inc(),
                ReplyMatch::Duplicate => metrics.duplicate.inc(),
                ReplyMatch::Late | ReplyMatch::Cancelled => metrics.late.inc(),
                ReplyMatch::Foreign => metrics.foreign.inc(),
            };
        });
        if answered {
            sign = sign.max(Sign::Replies);
        }
        if sign > Sign::Nothing || batch.at_end {
            presence.listen(sign, Instant::now());
        } else {
            presence.pass(Instant::now());
        }
        if std::mem::replace(&mut no_worker, presence.has_no_worker()) != no_worker {
            pending.set_no_worker(no_worker);
            if no_worker {
                warn!("no worker has been sign of for a while: callers are told so");
            } else {
                info!("a worker is there again");
            }
        }
        // The callers are answered before more is asked for.
        yield_now().await;
    }
}

/// What a reply says: its value, or that the service failed. How it failed is not for the caller.
fn outcome(id: Uuid, record: ConsumedRecord) -> Outcome {
    if let Some(error) = headers::handler_error(record.headers()) {
        let shown = error.get(..SHOWN_BYTES).unwrap_or(error);
        debug!(%id, error = %shown.escape_ascii(), "the service failed");
        return Err(GatewayError::ServiceFailed);
    }
    Ok(record.into_value().unwrap_or_default())
}
