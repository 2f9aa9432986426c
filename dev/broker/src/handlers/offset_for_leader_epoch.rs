//! `OffsetForLeaderEpoch`: where an epoch ended, by which consumers notice that a log was cut (KIP-320).

use kafka_protocol::{
    error::ResponseError,
    messages::{
        OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
        offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic},
        offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult},
    },
};

use crate::{call::Call, topics::Topic};

/// Answers for each partition by itself.
pub(crate) fn answer(call: &Call<'_>, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|asked| look_up(call, asked)).collect();
    OffsetForLeaderEpochResponse::default()
        .with_throttle_time_ms(call.throttle_ms())
        .with_topics(topics)
}

fn look_up(call: &Call<'_>, asked: OffsetForLeaderTopic) -> OffsetForLeaderTopicResult {
    let topic = call.cluster.topics.named(&asked.topic);
    let answers = asked.partitions.iter().map(|partition| {
        let topic = topic.as_ref().map_err(|error| *error);
        let answer = EpochEndOffset::default().with_partition(partition.partition);
        match topic.and_then(|topic| end(call, topic, partition)) {
            Ok((epoch, offset)) => answer.with_leader_epoch(epoch).with_end_offset(offset),
            Err(error) => answer.with_error_code(error.code()),
        }
    });
    let answers = answers.collect();
    OffsetForLeaderTopicResult::default()
        .with_topic(asked.topic)
        .with_partitions(answers)
}

fn end(call: &Call<'_>, topic: &Topic, asked: &OffsetForLeaderPartition) -> Result<(i32, i64), ResponseError> {
    call.admit()?;
    let partition = topic
        .partition(asked.partition)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    partition.end_of_epoch(call.asked(asked.current_leader_epoch), asked.leader_epoch)
}
