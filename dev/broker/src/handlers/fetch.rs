//! `Fetch`: batches from partitions, at once or as soon as `min_bytes` are there.
//!
//! A fetch with less than `min_bytes` registers a waiter with its partitions, and reads again when one of them wakes it,
//! until it has enough or `max_wait_ms` has passed. Sessions (KIP-227) are declined with session id 0.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    error::ResponseError,
    messages::{
        BrokerId, FetchRequest, FetchResponse, ProducerId,
        fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData},
    },
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::list_offsets::READ_COMMITTED;
use crate::{
    log::FetchedBatches,
    partition::{FetchParams, LogReadResult, Partition},
    request::{RequestContext, millis},
};

/// The most bytes of records in a response, the default of Kafka's broker setting `fetch.max.bytes`.
const MAX_BYTES: usize = 55 << 20;

/// One read of all requested partitions.
#[derive(Debug, Default)]
struct FetchRead {
    topics: Vec<FetchableTopicResponse>,
    size_bytes: usize,
    /// The error of a partition ends the wait.
    has_error: bool,
}

/// A fetch that may wait. Its drop removes the waiter from all partitions, also when the connection ends.
#[derive(Debug, Default)]
struct DelayedFetch {
    waiter: Arc<Notify>,
    partitions: Vec<Arc<Partition>>,
}

/// Responds at once, or when there are enough bytes.
pub(super) async fn handle(context: &RequestContext<'_>, request: &FetchRequest) -> FetchResponse {
    if request.session_epoch > 0 {
        return FetchResponse::default().with_error_code(ResponseError::FetchSessionIdNotFound.code());
    }
    let max_bytes = size(request.max_bytes).min(MAX_BYTES);
    let min_bytes = size(request.min_bytes).min(max_bytes);
    let deadline = Instant::now() + millis(request.max_wait_ms);
    let mut delayed = (request.max_wait_ms > 0).then(DelayedFetch::default);
    loop {
        let read = read(context, request, max_bytes, min_bytes, delayed.as_mut());
        if let Some(delayed) = &delayed
            && read.size_bytes < min_bytes
            && !read.has_error
            && !request.topics.is_empty()
            && timeout_at(deadline, delayed.waiter.notified()).await.is_ok()
        {
            continue;
        }
        // At the deadline nothing has changed since the last read: a change would have woken the fetch.
        return FetchResponse::default().with_responses(read.topics);
    }
}

/// Reads every partition once, up to `max_bytes` together.
fn read(
    context: &RequestContext<'_>,
    request: &FetchRequest,
    max_bytes: usize,
    min_bytes: usize,
    mut delayed: Option<&mut DelayedFetch>,
) -> FetchRead {
    let mut read = FetchRead::default();
    if let Some(delayed) = delayed.as_deref_mut() {
        delayed.partitions.clear();
    }
    for requested in &request.topics {
        let topic = context.topic(&requested.topic, &requested.topic_id);
        let mut partitions = Vec::with_capacity(requested.partitions.len());
        for fetch in &requested.partitions {
            let params = FetchParams {
                fetch_offset: fetch.fetch_offset,
                max_bytes: size(fetch.partition_max_bytes).min(max_bytes.saturating_sub(read.size_bytes)),
                min_one_batch: read.size_bytes == 0,
                read_committed: request.isolation_level == READ_COMMITTED,
            };
            let result = context.partition(&topic, fetch.partition).and_then(|partition| {
                let waiter = delayed.as_deref_mut().map(|delayed| {
                    delayed.partitions.push(Arc::clone(partition));
                    &delayed.waiter
                });
                let check = context.leader_check(fetch.current_leader_epoch);
                partition.read(check, params, waiter, min_bytes)
            });
            let data = PartitionData::default()
                .with_partition_index(fetch.partition)
                .with_preferred_read_replica(BrokerId(-1));
            partitions.push(match result {
                Ok(result) => {
                    read.size_bytes += result.fetched.size_bytes;
                    partition_data(data, result)
                }
                Err(error) => {
                    read.has_error = true;
                    data.with_error_code(error.code())
                        .with_high_watermark(-1)
                        .with_records(Some(Bytes::new()))
                }
            });
        }
        let topic = FetchableTopicResponse::default()
            .with_topic(requested.topic.clone())
            .with_topic_id(requested.topic_id)
            .with_partitions(partitions);
        read.topics.push(topic);
    }
    read
}

fn partition_data(data: PartitionData, result: LogReadResult) -> PartitionData {
    let aborted = result.aborted.map(|aborted| {
        let transactions = aborted.iter().map(|txn| {
            AbortedTransaction::default()
                .with_producer_id(ProducerId(txn.producer_id))
                .with_first_offset(txn.first_offset)
        });
        transactions.collect()
    });
    data.with_high_watermark(result.high_watermark)
        .with_last_stable_offset(result.last_stable_offset)
        .with_log_start_offset(result.log_start_offset)
        .with_aborted_transactions(aborted)
        .with_records(Some(concat(result.fetched)))
}

fn concat(fetched: FetchedBatches) -> Bytes {
    match &fetched.batches[..] {
        [single] => single.clone(),
        batches => {
            let mut records = BytesMut::with_capacity(fetched.size_bytes);
            for batch in batches {
                records.extend_from_slice(batch);
            }
            records.freeze()
        }
    }
}

/// A size in a request; negative values are 0.
fn size(bytes: i32) -> usize {
    usize::try_from(bytes).unwrap_or(0)
}

// === impl DelayedFetch ===

impl Drop for DelayedFetch {
    fn drop(&mut self) {
        for partition in &self.partitions {
            partition.remove_fetch(&self.waiter);
        }
    }
}
