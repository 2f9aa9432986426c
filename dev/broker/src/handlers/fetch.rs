//! `Fetch`: whole batches out of partitions, at once or as soon as there are enough.
//!
//! A fetch that finds too little leaves a waiter with its partitions and looks again when one of them wakes it, until it
//! has enough or its time is up. Sessions (KIP-227) are declined with session id 0, which every client takes.

mod encode;

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::{
    error::ResponseError,
    messages::{
        BrokerId, FetchRequest, ProducerId, TopicName,
        fetch_request::{FetchPartition, FetchTopic},
        fetch_response::{AbortedTransaction, PartitionData},
    },
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};
use uuid::Uuid;

use self::encode::encode;
use super::list_offsets::READ_COMMITTED;
use crate::{
    call::{Call, Refused, wait},
    partition::{Read, Wanted},
    reply::Reply,
    topics::Topic,
};

/// The most an answer carries, Kafka's `fetch.max.bytes` of brokers.
const MAX_BYTES: usize = 55 << 20;

/// What was found for one fetch.
#[derive(Debug, Default)]
struct Found {
    topics: Vec<FoundTopic>,
    len_bytes: usize,
    /// Some partition has an error, which the client should learn at once.
    failed: bool,
}

#[derive(Debug)]
struct FoundTopic {
    name: TopicName,
    id: Uuid,
    partitions: Vec<FoundPartition>,
}

/// The answer for a partition; its records are beside it, because they are shared.
#[derive(Debug)]
struct FoundPartition {
    data: PartitionData,
    batches: Vec<Bytes>,
    len_bytes: usize,
}

/// Answers with what there is, or waits for it.
pub(crate) async fn answer(call: &Call<'_>, request: &FetchRequest) -> Result<Reply, Refused> {
    if request.session_epoch > 0 {
        return encode(call, ResponseError::FetchSessionIdNotFound.code(), &Found::default());
    }
    let max_bytes = bytes(request.max_bytes).min(MAX_BYTES);
    let enough = bytes(request.min_bytes).min(max_bytes);
    let deadline = Instant::now() + wait(request.max_wait_ms);
    let mut waiter = (request.max_wait_ms > 0).then(Waiter::default);
    loop {
        let found = gather(call, request, max_bytes, enough, waiter.as_mut());
        if let Some(waiter) = &waiter
            && found.len_bytes < enough
            && !found.failed
            && !request.topics.is_empty()
            && timeout_at(deadline, waiter.woken.notified()).await.is_ok()
        {
            continue;
        }
        // After the time is up this is still all there is: any change would have woken it.
        return encode(call, 0, &found);
    }
}

/// Reads once from every partition, up to `max_bytes` together.
fn gather(
    call: &Call<'_>,
    request: &FetchRequest,
    max_bytes: usize,
    enough: usize,
    mut waiter: Option<&mut Waiter>,
) -> Found {
    let mut found = Found::default();
    if let Some(waiter) = waiter.as_deref_mut() {
        waiter.places.clear();
    }
    for asked in &request.topics {
        let topic = call.topic(&asked.topic, &asked.topic_id);
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for partition in &asked.partitions {
            let wanted = Wanted {
                from: partition.fetch_offset,
                max_bytes: bytes(partition.partition_max_bytes).min(max_bytes.saturating_sub(found.len_bytes)),
                at_least_one: found.len_bytes == 0,
                committed: request.isolation_level == READ_COMMITTED,
            };
            let read = topic.as_ref().map_err(|error| *error);
            let read = read.and_then(|topic| read_one(call, topic, partition, wanted, enough, waiter.as_deref_mut()));
            let answer = describe(partition.partition, read);
            found.failed |= answer.data.error_code != 0;
            found.len_bytes += answer.len_bytes;
            partitions.push(answer);
        }
        found.topics.push(topic_of(asked, partitions));
    }
    found
}

fn topic_of(asked: &FetchTopic, partitions: Vec<FoundPartition>) -> FoundTopic {
    FoundTopic {
        name: asked.topic.clone(),
        id: asked.topic_id,
        partitions,
    }
}

fn read_one(
    call: &Call<'_>,
    topic: &Arc<Topic>,
    asked: &FetchPartition,
    wanted: Wanted,
    enough: usize,
    waiter: Option<&mut Waiter>,
) -> Result<Read, ResponseError> {
    call.admit()?;
    let partition = topic
        .partition(asked.partition)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    let asker = call.asked(asked.current_leader_epoch);
    let Some(waiter) = waiter else {
        return partition.read(asker, wanted, None);
    };
    waiter.places.push((Arc::clone(topic), asked.partition));
    partition.read(asker, wanted, Some((&waiter.woken, enough)))
}

fn describe(index: i32, read: Result<Read, ResponseError>) -> FoundPartition {
    let data = PartitionData::default()
        .with_partition_index(index)
        .with_preferred_read_replica(BrokerId(-1));
    match read {
        Ok(read) => {
            let aborted = read.aborted.map(|aborted| {
                let transaction = AbortedTransaction::default();
                let describe = aborted.iter().map(|gone| {
                    let transaction = transaction.clone().with_producer_id(ProducerId(gone.producer_id));
                    transaction.with_first_offset(gone.first)
                });
                describe.collect()
            });
            let data = data
                .with_high_watermark(read.end)
                .with_last_stable_offset(read.stable)
                .with_log_start_offset(read.start)
                .with_aborted_transactions(aborted);
            FoundPartition {
                data,
                batches: read.slice.batches,
                len_bytes: read.slice.len_bytes,
            }
        }
        Err(error) => {
            let data = data.with_error_code(error.code()).with_high_watermark(-1);
            FoundPartition {
                data,
                batches: Vec::new(),
                len_bytes: 0,
            }
        }
    }
}

/// Sizes from the wire are signed; below 0 is 0.
fn bytes(size: i32) -> usize {
    usize::try_from(size).unwrap_or(0)
}

/// A fetch that waits. Wherever it left itself it is taken out again, also when the connection goes away.
#[derive(Debug, Default)]
struct Waiter {
    woken: Arc<Notify>,
    places: Vec<(Arc<Topic>, i32)>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        for (topic, index) in &self.places {
            if let Some(partition) = topic.partition(*index) {
                partition.forget(&self.woken);
            }
        }
    }
}
