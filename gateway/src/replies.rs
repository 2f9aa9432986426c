//! The reply loop: from the consumer of the reply topic to the requests in flight.
//!
//! Nothing in it waits for a caller. A batch is parsed before the table of requests is locked, and counted after that.

use std::{convert::Infallible, mem};

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
const MAX_LOGGED_BYTES: usize = 1024;

/// Reads replies for ever. Requests are admitted once the start offset is fixed.
pub(crate) async fn run(mut consumer: PartitionConsumer, in_flight: InFlight, metrics: ReplyMetrics) -> Infallible {
    consumer.wait_for_start().await;
    in_flight.ready();
    let mut presence = WorkerPresence::default();
    let mut had_no_worker = false;
    loop {
        let batch = consumer.poll().await;
        let mut sign = Sign::Nothing;
        let mut replies = Vec::with_capacity(batch.records.len());
        for record in batch.records {
            if let Some(id) = headers::correlation_id(record.headers(), record.key()) {
                replies.push((id, outcome(id, record)));
            } else if headers::is_heartbeat(record.key()) {
                sign = Sign::Heartbeat;
                metrics.heartbeat.inc();
            } else {
                metrics.malformed.inc();
            }
        }

        let matches = in_flight.reply(replies);
        for reply_match in &matches {
            metrics.count(*reply_match);
        }

        // A late or duplicate reply comes from a worker as well; a foreign one may come from another gateway's.
        if matches.iter().any(|reply_match| *reply_match != ReplyMatch::Foreign) {
            sign = sign.max(Sign::Reply);
        }
        presence.fetched(sign, batch.at_end, Instant::now());
        let has_no_worker = presence.has_no_worker();
        if mem::replace(&mut had_no_worker, has_no_worker) != has_no_worker {
            in_flight.set_no_worker(has_no_worker);
            if has_no_worker {
                warn!("no heartbeat and no reply for 3 s or more: requests are refused");
            } else {
                info!("a worker is there again");
            }
        }

        // The tasks of the callers run before the next fetch.
        yield_now().await;
    }
}

/// The value of a reply, or that the service failed. Its error is logged, and hidden from the caller.
fn outcome(id: Uuid, record: ConsumedRecord) -> Outcome {
    if let Some(error) = headers::handler_error(record.headers()) {
        let logged = error.get(..MAX_LOGGED_BYTES).unwrap_or(error);
        debug!(%id, error = %logged.escape_ascii(), "the service failed");
        return Err(GatewayError::ServiceFailed);
    }
    Ok(record.value().unwrap_or_default().to_vec())
}
