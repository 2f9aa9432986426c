//! `OffsetCommit` commits offsets of a group.

use kafka_protocol::{
    error::ResponseError,
    messages::{
        OffsetCommitRequest, OffsetCommitResponse,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
    },
};

use crate::{
    groups::{MAX_METADATA_BYTES, MemberEpoch, OffsetAndMetadata, TopicIdPartition},
    request::RequestContext,
};

type Offsets = Vec<(String, TopicIdPartition, OffsetAndMetadata)>;

/// Unknown partitions and too long metadata fail alone. Every other error fails all partitions.
pub(super) fn handle(context: &RequestContext<'_>, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let mut offsets = Offsets::new();
    let mut topics: Vec<_> = request
        .topics
        .iter()
        .map(|topic| validate(context, topic, &mut offsets))
        .collect();
    if let Err(error) = commit(context, &request, offsets) {
        let partitions = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        for partition in partitions.filter(|partition| partition.error_code == 0) {
            partition.error_code = error.code();
        }
    }
    OffsetCommitResponse::default().with_topics(topics)
}

/// The response for a topic unless the commit fails. Adds the offsets to commit.
fn validate(
    context: &RequestContext<'_>,
    requested: &OffsetCommitRequestTopic,
    offsets: &mut Offsets,
) -> OffsetCommitResponseTopic {
    let topic = context.cluster.topics.by_name(&requested.name);
    let partitions = requested.partitions.iter().map(|partition| {
        let index = partition.partition_index;
        let response = OffsetCommitResponsePartition::default().with_partition_index(index);
        let topic = topic.as_ref().ok().filter(|topic| topic.partition(index).is_ok());
        match (topic, offset_and_metadata(partition)) {
            (None, _) => response.with_error_code(ResponseError::UnknownTopicOrPartition.code()),
            (_, None) => response.with_error_code(ResponseError::OffsetMetadataTooLarge.code()),
            (Some(topic), Some(committed)) => {
                offsets.push((topic.name.to_string(), (topic.id, index), committed));
                response
            }
        }
    });
    let partitions = partitions.collect();
    OffsetCommitResponseTopic::default()
        .with_name(requested.name.clone())
        .with_partitions(partitions)
}

/// None if the metadata is too long.
fn offset_and_metadata(partition: &OffsetCommitRequestPartition) -> Option<OffsetAndMetadata> {
    let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
    (metadata.len() <= MAX_METADATA_BYTES).then(|| OffsetAndMetadata {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: metadata.to_owned(),
    })
}

fn commit(context: &RequestContext<'_>, request: &OffsetCommitRequest, offsets: Offsets) -> Result<(), ResponseError> {
    context.check_coordinator(&request.group_id)?;
    let committer = MemberEpoch {
        member_id: &request.member_id,
        epoch: request.generation_id_or_member_epoch,
    };
    let (group, snapshot) = (&request.group_id, context.cluster.snapshot());
    let groups = &context.cluster.groups;
    groups.commit(group, committer, context.version, offsets, &snapshot)
}
