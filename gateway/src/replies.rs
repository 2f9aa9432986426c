//! The reply loop of one reply topic: from its consumer to the requests in flight.
//!
//! Nothing in it waits for a caller. A batch is parsed before the table of requests is locked, and counted after that.

use std::convert::Infallible;

use kafka::{ConsumedRecord, PartitionConsumer, TopicPartition};
use shared::{headers, heartbeat::Heartbeat};
use tokio::{task::yield_now, time::Instant};
use tracing::debug;
use uuid::Uuid;

use crate::{
    in_flight::{InFlight, Outcome, Reply, ReplyMatch},
    metrics::ReplyMetrics,
    response::GatewayError,
    unusable_replies::{Unusable, UnusableReplies},
    watched_topic::WatchedTopic,
    worker_presence::Sign,
    workers::Workers,
};

/// Bytes of a service's error that are logged.
const MAX_LOGGED_BYTES: usize = 1024;

/// What is told of the records beside the replies.
#[derive(Debug, Clone)]
pub(crate) struct Observers {
    pub(crate) metrics: ReplyMetrics,
    pub(crate) workers: Workers,
    pub(crate) unusable: UnusableReplies,
}

/// Reads replies from `partition` for ever. Requests to the `topics` are admitted once the start offset is fixed.
pub(crate) async fn run(
    partition: TopicPartition,
    mut consumer: PartitionConsumer,
    in_flight: InFlight,
    mut topics: Vec<WatchedTopic>,
    observers: Observers,
) -> Infallible {
    let Observers {
        metrics,
        workers,
        unusable,
    } = observers;
    consumer.wait_for_start().await;
    for topic in &topics {
        in_flight.ready(topic.index());
    }
    loop {
        let batch = consumer.poll().await;
        let now = Instant::now();
        let mut replies = Vec::with_capacity(batch.records.len());
        for record in batch.records {
            if let Some(id) = headers::correlation_id(record.headers(), record.key()) {
                replies.push((id, outcome(id, record, partition.partition)));
            } else if headers::is_heartbeat(record.key()) {
                metrics.heartbeat.inc();
                // A value of a later kind names no topics.
                let value = record.value().unwrap_or_default();
                let heartbeat = Heartbeat::from_value(value).unwrap_or_default();
                topics.iter_mut().for_each(|topic| topic.heartbeat(&heartbeat, now));
                workers.heard(heartbeat, value.len(), now);
            } else {
                metrics.malformed.inc();
                let cause = match headers::correlation_header(record.headers()) {
                    None => Unusable::NoCorrelationId,
                    Some(_) => Unusable::InvalidCorrelationId,
                };
                let TopicPartition { topic, partition } = &partition;
                unusable.log(cause, topic, *partition, record.offset(), record.headers());
            }
        }

        for (reply_match, index) in in_flight.reply(replies) {
            metrics.count(reply_match);
            // A late or duplicate reply comes from a worker as well; a foreign one may come from another gateway's.
            if reply_match != ReplyMatch::Foreign
                && let Some(topic) = topics.iter_mut().find(|topic| Some(topic.index()) == index)
            {
                topic.saw(Sign::Reply);
            }
        }
        for topic in &mut topics {
            if let Some(has_no_worker) = topic.fetched(batch.at_end, now) {
                in_flight.set_no_worker(topic.index(), has_no_worker);
            }
        }

        // The tasks of the callers run before the next fetch.
        yield_now().await;
    }
}

/// The reply, or that the service failed. Its error is logged, and hidden from the caller.
fn outcome(id: Uuid, record: ConsumedRecord, partition: i32) -> Outcome {
    let headers = record.headers();
    if let Some(error) = headers::handler_error(headers) {
        let logged = error.get(..MAX_LOGGED_BYTES).unwrap_or(error);
        debug!(%id, error = %logged.escape_ascii(), "the service failed");
        return Err(GatewayError::ServiceFailed);
    }
    Ok(Some(Reply { record, partition }))
}
