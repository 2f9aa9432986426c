//! `OffsetFetch`: the positions a group has committed. That there is none is offset -1 without an error.

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
    call::Call,
    groups::{Asker, Committed, Positions},
};

/// Answers for each group by itself; before version 8 there is one.
pub(crate) fn answer(call: &Call<'_>, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let response = OffsetFetchResponse::default().with_throttle_time_ms(call.throttle_ms());
    if call.version >= 8 {
        let groups = request.groups.into_iter().map(|group| look_up(call, group));
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
    let group = look_up(call, group);
    let topics = group.topics.into_iter().map(old_topic);
    response.with_error_code(group.error_code).with_topics(topics.collect())
}

fn look_up(call: &Call<'_>, asked: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let asker = asked.member_id.as_deref().map(|member| Asker {
        member,
        epoch: asked.member_epoch,
    });
    let read = |positions: &Positions| match &asked.topics {
        Some(topics) => topics.iter().map(|topic| some(topic, positions)).collect(),
        None => all(positions),
    };
    let found = call.admit_group(&asked.group_id).and_then(|()| {
        let groups = &call.cluster.groups;
        groups.positions(&asked.group_id, asker, &call.cluster.view(), read)
    });
    let group = match found {
        Ok(topics) => OffsetFetchResponseGroup::default().with_topics(topics),
        // Version 1 has no other place for an error than the partitions.
        Err(error) => OffsetFetchResponseGroup::default()
            .with_error_code(error.code())
            .with_topics(if call.version < 2 {
                refused(&asked, error)
            } else {
                vec![]
            }),
    };
    group.with_group_id(GroupId(asked.group_id.0))
}

fn some(asked: &OffsetFetchRequestTopics, positions: &Positions) -> OffsetFetchResponseTopics {
    let indexes = asked.partition_indexes.iter();
    let partitions = indexes.map(|index| partition(*index, positions.of(&asked.name, *index)));
    OffsetFetchResponseTopics::default()
        .with_name(asked.name.clone())
        .with_partitions(partitions.collect())
}

fn all(positions: &Positions) -> Vec<OffsetFetchResponseTopics> {
    let topics = positions.all().map(|(topic, partitions)| {
        let partitions = partitions
            .iter()
            .map(|(index, committed)| partition(*index, Some(committed)));
        OffsetFetchResponseTopics::default()
            .with_name(TopicName(StrBytes::from_string(topic.clone())))
            .with_partitions(partitions.collect())
    });
    topics.collect()
}

fn partition(index: i32, committed: Option<&Committed>) -> OffsetFetchResponsePartitions {
    let answer = OffsetFetchResponsePartitions::default().with_partition_index(index);
    match committed {
        Some(committed) => answer
            .with_committed_offset(committed.offset)
            .with_committed_leader_epoch(committed.leader_epoch)
            .with_metadata(Some(StrBytes::from_string(committed.metadata.clone()))),
        None => answer
            .with_committed_offset(-1)
            .with_committed_leader_epoch(-1)
            .with_metadata(Some(StrBytes::default())),
    }
}

fn refused(asked: &OffsetFetchRequestGroup, error: ResponseError) -> Vec<OffsetFetchResponseTopics> {
    let mut topics: Vec<_> = asked
        .topics
        .iter()
        .flatten()
        .map(|topic| some(topic, &Positions::default()))
        .collect();
    for partition in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        partition.error_code = error.code();
    }
    topics
}

/// As it is written before version 8.
fn old_topic(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
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
