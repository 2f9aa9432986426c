//! `ListOffsets`: the first and the last offset of a partition, or the offset of a timestamp.

use kafka_protocol::{
    error::ResponseError,
    messages::{
        ListOffsetsRequest, ListOffsetsResponse,
        list_offsets_request::ListOffsetsPartition,
        list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
    },
};

use crate::{
    log::TimestampAndOffset,
    partition::{OffsetSpec, Partition},
    request::RequestContext,
};

/// Isolation level `READ_COMMITTED` (KIP-98).
pub(super) const READ_COMMITTED: i8 = 1;

/// A timestamp after the last record gives offset -1 without an error.
pub(super) fn handle(context: &RequestContext<'_>, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let read_committed = request.isolation_level == READ_COMMITTED;
    let topics = request.topics.into_iter().map(|requested| {
        let topic = context.cluster.topics.by_name(&requested.name);
        let partitions = requested.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            let found = context
                .partition(&topic, index)
                .and_then(|found| find_offset(context, found, partition, read_committed));
            let response = ListOffsetsPartitionResponse::default().with_partition_index(index);
            match found {
                Ok(Some(found)) => response
                    .with_offset(found.offset)
                    .with_timestamp(found.timestamp)
                    // Added in version 4.
                    .with_leader_epoch(if context.version >= 4 { found.leader_epoch } else { -1 }),
                Ok(None) => response,
                Err(error) => response.with_error_code(error.code()),
            }
        });
        let partitions = partitions.collect();
        ListOffsetsTopicResponse::default()
            .with_name(requested.name)
            .with_partitions(partitions)
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

fn find_offset(
    context: &RequestContext<'_>,
    partition: &Partition,
    requested: &ListOffsetsPartition,
    read_committed: bool,
) -> Result<Option<TimestampAndOffset>, ResponseError> {
    let spec = match requested.timestamp {
        -1 => OffsetSpec::Latest,
        -2 => OffsetSpec::Earliest,
        -3 if context.version >= 7 => OffsetSpec::MaxTimestamp,
        // The earliest local offset (KIP-405). The whole log is local.
        -4 if context.version >= 8 => OffsetSpec::Earliest,
        // The latest offset in remote storage (KIP-1005), which does not exist.
        -5 if context.version >= 9 => return Ok(None),
        timestamp if timestamp >= 0 => OffsetSpec::Timestamp(timestamp),
        _ => return Err(ResponseError::UnsupportedVersion),
    };
    let check = context.leader_check(requested.current_leader_epoch);
    partition.find_offset(check, spec, read_committed)
}
