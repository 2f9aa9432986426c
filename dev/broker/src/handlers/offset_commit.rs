//! `OffsetCommit`: the positions of a group, kept.

use kafka_protocol::{
    error::ResponseError,
    messages::{
        OffsetCommitRequest, OffsetCommitResponse,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
    },
};

use crate::{
    call::Call,
    groups::{Asker, Committed, MAX_METADATA_BYTES, PartitionId},
};

/// Commits what can be committed: partitions that do not exist fail by themselves, everything else fails together.
pub(crate) fn answer(call: &Call<'_>, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let mut positions = Vec::new();
    let mut topics: Vec<_> = request
        .topics
        .iter()
        .map(|topic| check(call, topic, &mut positions))
        .collect();
    let sound = |partition: &&mut OffsetCommitResponsePartition| partition.error_code == 0;
    if let Err(error) = commit(call, &request, positions) {
        let partitions = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        for partition in partitions.filter(sound) {
            partition.error_code = error.code();
        }
    }
    OffsetCommitResponse::default()
        .with_throttle_time_ms(call.throttle_ms())
        .with_topics(topics)
}

/// The answer for a topic so far, and what there is to commit.
fn check(
    call: &Call<'_>,
    asked: &OffsetCommitRequestTopic,
    positions: &mut Vec<(String, PartitionId, Committed)>,
) -> OffsetCommitResponseTopic {
    let topic = call.cluster.topics.named(&asked.name);
    let answers = asked.partitions.iter().map(|partition| {
        let answer = OffsetCommitResponsePartition::default().with_partition_index(partition.partition_index);
        let index = partition.partition_index;
        let topic = topic.as_ref().ok().filter(|topic| topic.partition(index).is_some());
        match (topic, committed(partition)) {
            (None, _) => answer.with_error_code(ResponseError::UnknownTopicOrPartition.code()),
            (_, None) => answer.with_error_code(ResponseError::OffsetMetadataTooLarge.code()),
            (Some(topic), Some(committed)) => {
                positions.push((topic.name.to_string(), (topic.id, index), committed));
                answer
            }
        }
    });
    let answers = answers.collect();
    OffsetCommitResponseTopic::default()
        .with_name(asked.name.clone())
        .with_partitions(answers)
}

/// What is to be kept, unless it is too long.
fn committed(partition: &OffsetCommitRequestPartition) -> Option<Committed> {
    let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
    (metadata.len() <= MAX_METADATA_BYTES).then(|| Committed {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: metadata.to_owned(),
    })
}

fn commit(
    call: &Call<'_>,
    request: &OffsetCommitRequest,
    positions: Vec<(String, PartitionId, Committed)>,
) -> Result<(), ResponseError> {
    call.admit_group(&request.group_id)?;
    let asker = Asker {
        member: &request.member_id,
        epoch: request.generation_id_or_member_epoch,
    };
    let groups = &call.cluster.groups;
    groups.commit(&request.group_id, asker, call.version, positions, &call.cluster.view())
}
