//! `ConsumerGroupDescribe`: who is in a group, what they have and what they are to have.

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
    call::Call,
    groups::{Group, Member, Membership, PartitionId, UNIFORM, View, by_topic},
};

/// `Member` in the wire type's numbers: one that speaks the consumer protocol.
const CONSUMER: i8 = 1;

/// Describes each group by itself.
pub(crate) fn answer(call: &Call<'_>, request: ConsumerGroupDescribeRequest) -> ConsumerGroupDescribeResponse {
    let view = call.cluster.view();
    let groups = request.group_ids.into_iter().map(|id| one(call, id, &view));
    let groups = groups.collect();
    ConsumerGroupDescribeResponse::default()
        .with_throttle_time_ms(call.throttle_ms())
        .with_groups(groups)
}

fn one(call: &Call<'_>, id: GroupId, view: &View<'_>) -> DescribedGroup {
    let describe = |group: &Group| group.membership.as_ref().map(|it| describe(it, view));
    let found = call
        .admit_group(&id)
        .and_then(|()| call.cluster.groups.with(&id, view, describe))
        .and_then(|found| found.ok_or(ResponseError::GroupIdNotFound));
    let described = found.unwrap_or_else(|error| {
        DescribedGroup::default()
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_string(error.to_string())))
    });
    described.with_group_id(id)
}

fn describe(membership: &Membership, view: &View<'_>) -> DescribedGroup {
    let names: HashMap<Uuid, &str> = view.topics.iter().map(|(name, it)| (it.id, name.as_str())).collect();
    let (epoch, target_epoch) = membership.epochs();
    let members = membership.members().map(|(id, member, target)| {
        describe_member(id, member)
            .with_assignment(assignment(member.holds(), &names))
            .with_target_assignment(assignment(target.into_iter().flatten(), &names))
    });
    DescribedGroup::default()
        .with_group_state(StrBytes::from_static_str(membership.state()))
        .with_group_epoch(epoch)
        .with_assignment_epoch(target_epoch)
        .with_assignor_name(StrBytes::from_static_str(UNIFORM))
        .with_members(members.collect())
}

fn describe_member(id: &str, member: &Member) -> DescribedMember {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let topics = member.subscribed.iter().map(|name| TopicName(text(name)));
    DescribedMember::default()
        .with_member_id(text(id))
        .with_instance_id(member.instance.as_deref().map(text))
        .with_rack_id(member.rack.as_deref().map(text))
        .with_member_epoch(member.epoch)
        .with_client_id(text(&member.client.id))
        .with_client_host(text(&member.client.host))
        .with_subscribed_topic_names(topics.collect())
        .with_member_type(CONSUMER)
}

/// By name; topics that are gone have none, and are left out.
fn assignment<'a>(partitions: impl IntoIterator<Item = &'a PartitionId>, names: &HashMap<Uuid, &str>) -> Assignment {
    let topics = by_topic(partitions).into_iter().filter_map(|(id, partitions)| {
        let name = StrBytes::from_string((*names.get(&id)?).to_owned());
        let topic = TopicPartitions::default()
            .with_topic_id(id)
            .with_topic_name(TopicName(name));
        Some(topic.with_partitions(partitions))
    });
    Assignment::default().with_topic_partitions(topics.collect())
}
