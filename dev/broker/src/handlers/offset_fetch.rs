//! `OffsetFetch`: the committed offsets of a group. A partition without one gives offset -1 and no error.

use kafka_protocol::{
    error::ResponseError,
    messages::{
        GroupId, OffsetFetchRequest, OffsetFetchResponse, TopicName,
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics},
        offset_fetch_response::{
            OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
            OffsetFetchResponseTopic, OffsetFetchResponseTopics,
        },
    },
    protocol::StrBytes,
};

use crate::{
    groups::{CommittedOffsets, MemberEpoch, OffsetAndMetadata},
    request::RequestContext,
};

/// Version 8 added several groups in one request.
pub(super) fn handle(context: &RequestContext<'_>, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let response = OffsetFetchResponse::default();
    if context.version >= 8 {
        let groups = request.groups.into_iter().map(|group| fetch_group(context, group));
        return response.with_groups(groups.collect());
    }
    let topics = request.topics.map(|topics| {
        let topics = topics.into_iter().map(|topic| {
            OffsetFetchRequestTopics::default()
                .with_name(topic.name)
                .with_partition_indexes(topic.partition_indexes)
        });
        topics.collect()
    });
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(request.group_id)
        .with_topics(topics);
    let group = fetch_group(context, group);
    let topics = group.topics.into_iter().map(topic_before_v8);
    response.with_error_code(group.error_code).with_topics(topics.collect())
}

fn fetch_group(context: &RequestContext<'_>, requested: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let fetcher = requested.member_id.as_deref().map(|member_id| MemberEpoch {
        member_id,
        epoch: requested.member_epoch,
    });
    let read = |offsets: &CommittedOffsets| match &requested.topics {
        Some(topics) => topics.iter().map(|topic| requested_offsets(topic, offsets)).collect(),
        None => all_offsets(offsets),
    };
    let found = context.check_coordinator(&requested.group_id).and_then(|()| {
        let groups = &context.cluster.groups;
        groups.fetch_offsets(&requested.group_id, fetcher, &context.cluster.snapshot(), read)
    });
    let group = match found {
        Ok(topics) => OffsetFetchResponseGroup::default().with_topics(topics),
        // Version 1 has error codes in the partitions only.
        Err(error) => OffsetFetchResponseGroup::default()
            .with_error_code(error.code())
            .with_topics(if context.version < 2 {
                with_error(&requested, error)
            } else {
                vec![]
            }),
    };
    group.with_group_id(GroupId(requested.group_id.0))
}

fn requested_offsets(requested: &OffsetFetchRequestTopics, offsets: &CommittedOffsets) -> OffsetFetchResponseTopics {
    let indexes = requested.partition_indexes.iter();
    let partitions = indexes.map(|index| partition(*index, offsets.get(&requested.name, *index)));
    OffsetFetchResponseTopics::default()
        .with_name(requested.name.clone())
        .with_partitions(partitions.collect())
}

fn all_offsets(offsets: &CommittedOffsets) -> Vec<OffsetFetchResponseTopics> {
    let topics = offsets.iter().map(|(topic, partitions)| {
        let partitions = partitions
            .iter()
            .map(|(index, committed)| partition(*index, Some(committed)));
        OffsetFetchResponseTopics::default()
            .with_name(TopicName(StrBytes::from_string(topic.clone())))
            .with_partitions(partitions.collect())
    });
    topics.collect()
}

fn partition(index: i32, committed: Option<&OffsetAndMetadata>) -> OffsetFetchResponsePartitions {
    let response = OffsetFetchResponsePartitions::default().with_partition_index(index);
    match committed {
        Some(committed) => response
            .with_committed_offset(committed.offset)
            .with_committed_leader_epoch(committed.leader_epoch)
            .with_metadata(Some(StrBytes::from_string(committed.metadata.clone()))),
        None => response
            .with_committed_offset(-1)
            .with_committed_leader_epoch(-1)
            .with_metadata(Some(StrBytes::default())),
    }
}

fn with_error(requested: &OffsetFetchRequestGroup, error: ResponseError) -> Vec<OffsetFetchResponseTopics> {
    let mut topics: Vec<_> = requested
        .topics
        .iter()
        .flatten()
        .map(|topic| requested_offsets(topic, &CommittedOffsets::default()))
        .collect();
    for partition in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        partition.error_code = error.code();
    }
    topics
}

/// The format before version 8.
fn topic_before_v8(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.into_iter().map(|partition| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_committed_offset(partition.committed_offset)
            .with_committed_leader_epoch(partition.committed_leader_epoch)
            .with_metadata(partition.metadata)
            .with_error_code(partition.error_code)
    });
    OffsetFetchResponseTopic::default()
        .with_name(topic.name)
        .with_partitions(partitions.collect())
}
