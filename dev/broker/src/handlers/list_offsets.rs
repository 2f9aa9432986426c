//! `ListOffsets`: the ends of a partition, and where a time is.

use kafka_protocol::{
    error::ResponseError,
    messages::{
        ListOffsetsRequest, ListOffsetsResponse,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
    },
};

use crate::{call::Call, log::Found, partition::Position, topics::Topic};

/// `READ_COMMITTED` (KIP-98).
pub(super) const READ_COMMITTED: i8 = 1;

/// Answers each question by itself. "No such record" is offset -1 without an error.
pub(crate) fn answer(call: &Call<'_>, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let committed = request.isolation_level == READ_COMMITTED;
    let topics = request
        .topics
        .into_iter()
        .map(|asked| look_up(call, asked, committed))
        .collect();
    ListOffsetsResponse::default()
        .with_throttle_time_ms(call.throttle_ms())
        .with_topics(topics)
}

fn look_up(call: &Call<'_>, asked: ListOffsetsTopic, committed: bool) -> ListOffsetsTopicResponse {
    let topic = call.cluster.topics.named(&asked.name);
    let answers = asked.partitions.iter().map(|partition| {
        let topic = topic.as_ref().map_err(|error| *error);
        let answer = ListOffsetsPartitionResponse::default().with_partition_index(partition.partition_index);
        match topic.and_then(|topic| find(call, topic, partition, committed)) {
            Ok(Some(found)) => {
                let answer = answer.with_offset(found.offset).with_timestamp(found.timestamp);
                // Older clients know no epochs.
                if call.version >= 4 {
                    answer.with_leader_epoch(found.epoch)
                } else {
                    answer
                }
            }
            Ok(None) => answer,
            Err(error) => answer.with_error_code(error.code()),
        }
    });
    let partitions = answers.collect();
    ListOffsetsTopicResponse::default()
        .with_name(asked.name)
        .with_partitions(partitions)
}

fn find(
    call: &Call<'_>,
    topic: &Topic,
    asked: &ListOffsetsPartition,
    committed: bool,
) -> Result<Option<Found>, ResponseError> {
    call.admit()?;
    let partition = topic
        .partition(asked.partition_index)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    let position = match asked.timestamp {
        -1 => Position::Latest,
        -2 => Position::Earliest,
        -3 if call.version >= 7 => Position::MaxTimestamp,
        // The earliest offset on the broker's own disk (KIP-405): all there is.
        -4 if call.version >= 8 => Position::Earliest,
        // The latest offset in remote storage (KIP-1005), which nothing ever reaches.
        -5 if call.version >= 9 => return Ok(None),
        timestamp if timestamp >= 0 => Position::Timestamp(timestamp),
        _ => return Err(ResponseError::UnsupportedVersion),
    };
    partition.find(call.asked(asked.current_leader_epoch), position, committed)
}
