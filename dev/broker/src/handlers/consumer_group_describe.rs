//! `ConsumerGroupDescribe`: the members of a group, each with its current and its target assignment.

use std::collections::HashMap;

use kafka_protocol::{
    error::ResponseError,
    messages::{
        ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, GroupId, TopicName,
        consumer_group_describe_response::{Assignment, DescribedGroup, Member as DescribedMember, TopicPartitions},
    },
    protocol::StrBytes,
};
use uuid::Uuid;

use crate::{
    groups::{ConsumerGroup, ConsumerGroupMember, Group, Snapshot, TopicIdPartition, UNIFORM, by_topic},
    request::RequestContext,
};

/// Member type of the consumer protocol.
const CONSUMER_MEMBER: i8 = 1;

pub(super) fn handle(
    context: &RequestContext<'_>,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let snapshot = context.cluster.snapshot();
    let groups = request
        .group_ids
        .into_iter()
        .map(|id| describe_group(context, id, &snapshot));
    ConsumerGroupDescribeResponse::default().with_groups(groups.collect())
}

fn describe_group(context: &RequestContext<'_>, id: GroupId, snapshot: &Snapshot<'_>) -> DescribedGroup {
    let describe = |group: &Group| group.consumer_group.as_ref().map(|members| describe(members, snapshot));
    let found = context
        .check_coordinator(&id)
        .and_then(|()| context.cluster.groups.with(&id, snapshot, describe))
        .and_then(|found| found.ok_or(ResponseError::GroupIdNotFound));
    let described = found.unwrap_or_else(|error| {
        DescribedGroup::default()
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_string(error.to_string())))
    });
    described.with_group_id(id)
}

fn describe(group: &ConsumerGroup, snapshot: &Snapshot<'_>) -> DescribedGroup {
    let names: HashMap<Uuid, &str> = snapshot
        .topics
        .iter()
        .map(|(name, topic)| (topic.id, name.as_str()))
        .collect();
    let (epoch, target_epoch) = group.epochs();
    let members = group.members().map(|(id, member, target)| {
        describe_member(id, member)
            .with_assignment(assignment(member.held(), &names))
            .with_target_assignment(assignment(target.into_iter().flatten(), &names))
    });
    DescribedGroup::default()
        .with_group_state(StrBytes::from_static_str(group.state()))
        .with_group_epoch(epoch)
        .with_assignment_epoch(target_epoch)
        .with_assignor_name(StrBytes::from_static_str(UNIFORM))
        .with_members(members.collect())
}

fn describe_member(id: &str, member: &ConsumerGroupMember) -> DescribedMember {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let topics = member.subscribed_topics.iter().map(|name| TopicName(text(name)));
    DescribedMember::default()
        .with_member_id(text(id))
        .with_instance_id(member.instance_id.as_deref().map(text))
        .with_rack_id(member.rack_id.as_deref().map(text))
        .with_member_epoch(member.epoch)
        .with_client_id(text(&member.client.id))
        .with_client_host(text(&member.client.host))
        .with_subscribed_topic_names(topics.collect())
        .with_member_type(CONSUMER_MEMBER)
}

/// Topics without a name were deleted, and are left out.
fn assignment<'a>(
    partitions: impl IntoIterator<Item = &'a TopicIdPartition>,
    names: &HashMap<Uuid, &str>,
) -> Assignment {
    let topics = by_topic(partitions).into_iter().filter_map(|(id, partitions)| {
        let name = StrBytes::from_string((*names.get(&id)?).to_owned());
        let topic = TopicPartitions::default()
            .with_topic_id(id)
            .with_topic_name(TopicName(name));
        Some(topic.with_partitions(partitions))
    });
    Assignment::default().with_topic_partitions(topics.collect())
}
