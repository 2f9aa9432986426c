//! Positions and members, over the wire.

use std::time::Duration;

use broker::Config;
use kafka_protocol::{
    messages::{
        ConsumerGroupHeartbeatRequest, DeleteGroupsRequest, FindCoordinatorRequest, GroupId, OffsetCommitRequest,
        OffsetFetchRequest, OffsetFetchResponse,
        consumer_group_heartbeat_request::TopicPartitions,
        consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
    },
    protocol::StrBytes,
};
use uuid::Uuid;

use crate::support::{Running, Wire, name, start, start_with};

/// The version of heartbeats.
const BEAT: i16 = 1;
/// The version in which members commit.
const COMMIT: i16 = 9;

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// The group whose positions are committed here.
pub(crate) fn group() -> GroupId {
    GroupId(text("positions"))
}

/// A commit of nobody in particular.
pub(crate) fn commit(topic: &str, positions: &[(i32, i64)]) -> OffsetCommitRequest {
    let partitions = positions.iter().map(|(index, offset)| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(*index)
            .with_committed_offset(*offset)
            .with_committed_metadata(Some(text("note")))
    });
    let topic = OffsetCommitRequestTopic::default()
        .with_name(name(topic))
        .with_partitions(partitions.collect());
    OffsetCommitRequest::default()
        .with_group_id(group())
        .with_topics(vec![topic])
}

/// A question for positions; for all of them, if none are named.
pub(crate) fn positions(version: i16, asked: Option<(&str, &[i32])>) -> OffsetFetchRequest {
    let request = OffsetFetchRequest::default();
    if version < 8 {
        let topics = asked.map(|(topic, indexes)| {
            let topic = OffsetFetchRequestTopic::default().with_name(name(topic));
            vec![topic.with_partition_indexes(indexes.to_vec())]
        });
        return request.with_group_id(group()).with_topics(topics);
    }
    let topics = asked.map(|(topic, indexes)| {
        let topic = OffsetFetchRequestTopics::default().with_name(name(topic));
        vec![topic.with_partition_indexes(indexes.to_vec())]
    });
    let asked = OffsetFetchRequestGroup::default().with_group_id(group());
    request.with_groups(vec![asked.with_topics(topics)])
}

/// The offsets in an answer, all of them in order.
pub(crate) fn offsets(version: i16, response: &OffsetFetchResponse) -> Vec<i64> {
    if version < 8 {
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        return partitions.map(|partition| partition.committed_offset).collect();
    }
    let topics = response.groups.iter().flat_map(|group| &group.topics);
    let partitions = topics.flat_map(|topic| &topic.partitions);
    partitions.map(|partition| partition.committed_offset).collect()
}

/// The first heartbeat of a member.
pub(crate) fn join(group: &str, member: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
    beat(group, member, 0)
        .with_rebalance_timeout_ms(60_000)
        .with_subscribed_topic_names(Some(topics.iter().map(|topic| name(topic)).collect()))
        .with_topic_partitions(Some(vec![]))
}

/// A heartbeat with nothing new in it.
pub(crate) fn beat(group: &str, member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_subscribed_topic_names(None)
        .with_topic_partitions(None)
        .with_rebalance_timeout_ms(-1)
}

/// The last heartbeat of a member.
pub(crate) fn leave(group: &str, member: &str) -> ConsumerGroupHeartbeatRequest {
    beat(group, member, -1)
}

/// The partitions in an answer, if it has any assignment.
fn assigned(response: &ConsumerGroupHeartbeatResponse) -> Option<Vec<(Uuid, Vec<i32>)>> {
    let assignment = response.assignment.as_ref()?;
    let topics = assignment.topic_partitions.iter();
    Some(topics.map(|topic| (topic.topic_id, topic.partitions.clone())).collect())
}

fn owning(request: ConsumerGroupHeartbeatRequest, topic: Uuid, partitions: &[i32]) -> ConsumerGroupHeartbeatRequest {
    let topic = TopicPartitions::default()
        .with_topic_id(topic)
        .with_partitions(partitions.to_vec());
    request.with_topic_partitions(Some(vec![topic]))
}

/// Without the pause between assignments.
async fn eager() -> Running {
    let mut config = Config::default();
    config.assignment_interval = Duration::ZERO;
    start_with(config).await
}

async fn committed(wire: &mut Wire, request: OffsetCommitRequest) -> Vec<i16> {
    let response = wire.call(COMMIT, &request).await;
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| partition.error_code).collect()
}

#[tokio::test]
async fn positions_are_kept_with_what_is_beside_them() {
    let broker = start().await;
    broker.topic("ping", 2).await;
    let mut wire = broker.wire().await;
    let mut request = commit("ping", &[(0, 5), (1, 6), (2, 7)]);
    request.topics[0].partitions[0].committed_leader_epoch = 3;
    request.topics[0].partitions[1].committed_metadata = Some(text(&"x".repeat(4097)));
    // A partition that is not there, and a text that is too long: the others are committed.
    assert_eq!(committed(&mut wire, request).await, [0, 12, 3]);
    assert_eq!(committed(&mut wire, commit("pong", &[(0, 5)])).await, [3]);
    let response = wire.call(9, &positions(9, Some(("ping", &[0, 1, 2])))).await;
    assert_eq!(offsets(9, &response), [5, -1, -1]);
    let first = &response.groups[0].topics[0].partitions[0];
    assert_eq!(
        (first.committed_leader_epoch, first.metadata.as_deref()),
        (3, Some("note"))
    );
    // A later commit replaces it, even with less.
    assert_eq!(committed(&mut wire, commit("ping", &[(0, 2)])).await, [0]);
    assert_eq!(offsets(9, &wire.call(9, &positions(9, None)).await), [2]);
}

#[tokio::test]
async fn positions_go_with_their_topic_and_their_group() {
    let broker = start().await;
    let topic = broker.topic("ping", 1).await;
    let mut wire = broker.wire().await;
    committed(&mut wire, commit("ping", &[(0, 5)])).await;
    let controller = topic.client.controller_client().unwrap();
    controller.delete_topic("ping", 1000).await.unwrap();
    broker.topic("ping", 1).await;
    assert_eq!(
        offsets(9, &wire.call(9, &positions(9, Some(("ping", &[0])))).await),
        [-1]
    );
    committed(&mut wire, commit("ping", &[(0, 5)])).await;
    let request = DeleteGroupsRequest::default().with_groups_names(vec![group()]);
    assert_eq!(wire.call(2, &request).await.results[0].error_code, 0);
    assert!(offsets(9, &wire.call(9, &positions(9, None)).await).is_empty());
    assert_eq!(wire.call(2, &request).await.results[0].error_code, 69);
}

#[tokio::test]
async fn a_group_with_members_takes_commits_of_members_only() {
    let broker = eager().await;
    broker.topic("ping", 1).await;
    let mut wire = broker.wire().await;
    let joined = wire.call(BEAT, &join("positions", "one", &["ping"])).await;
    let by = |member: &str, epoch| {
        commit("ping", &[(0, 5)])
            .with_member_id(text(member))
            .with_generation_id_or_member_epoch(epoch)
    };
    let epoch = joined.member_epoch;
    for (request, error) in [
        (commit("ping", &[(0, 5)]), 25),
        (by("two", epoch), 25),
        (by("one", epoch - 1), 113),
        (by("one", epoch + 1), 113),
        (by("one", epoch), 0),
    ] {
        assert_eq!(committed(&mut wire, request).await, [error]);
    }
    let old = wire.call(8, &by("one", epoch)).await;
    assert_eq!(old.topics[0].partitions[0].error_code, 35);
    // The last one out leaves the positions, and anybody may set them.
    assert_eq!(wire.call(BEAT, &leave("positions", "one")).await.error_code, 0);
    assert_eq!(offsets(9, &wire.call(9, &positions(9, None)).await), [5]);
    assert_eq!(committed(&mut wire, commit("ping", &[(0, 1)])).await, [0]);
}

#[tokio::test]
async fn a_partition_is_handed_over_when_its_owner_has_said_so() {
    let broker = eager().await;
    broker.topic("ping", 2).await;
    let mut wire = broker.wire().await;
    let one = wire.call(BEAT, &join("g", "one", &["ping"])).await;
    let [(topic, both)] = &assigned(&one).unwrap()[..] else {
        panic!("one topic");
    };
    assert_eq!(both, &[0, 1]);
    let two = wire.call(BEAT, &join("g", "two", &["ping"])).await;
    assert_eq!((two.member_epoch, assigned(&two)), (3, Some(vec![])));

    // Told to give one up, in the same epoch; silence about what is owned changes nothing.
    let told = wire.call(BEAT, &beat("g", "one", 2)).await;
    assert_eq!((told.member_epoch, assigned(&told)), (2, Some(vec![(*topic, vec![0])])));
    for request in [beat("g", "one", 2), owning(beat("g", "one", 2), *topic, &[0, 1])] {
        assert_eq!(wire.call(BEAT, &request).await.member_epoch, 2);
        assert_eq!(assigned(&wire.call(BEAT, &beat("g", "two", 3)).await), None);
    }
    let gave = wire.call(BEAT, &owning(beat("g", "one", 2), *topic, &[0])).await;
    assert_eq!((gave.member_epoch, assigned(&gave)), (3, None));
    let got = wire.call(BEAT, &beat("g", "two", 3)).await;
    assert_eq!(assigned(&got), Some(vec![(*topic, vec![1])]));
}

#[tokio::test]
async fn a_group_notices_topics_that_come_and_grow() {
    let broker = eager().await;
    let mut wire = broker.wire().await;
    let one = wire.call(BEAT, &join("g", "one", &["ping"])).await;
    assert_eq!((one.member_epoch, assigned(&one)), (2, Some(vec![])));
    broker.topic("other", 1).await;
    assert_eq!(wire.call(BEAT, &beat("g", "one", 2)).await.member_epoch, 2);
    broker.topic("ping", 1).await;
    let came = wire.call(BEAT, &beat("g", "one", 2)).await;
    assert_eq!((came.member_epoch, assigned(&came).unwrap()[0].1.clone()), (3, vec![0]));
}

#[tokio::test]
async fn nobody_coordinates_transactions() {
    let broker = start().await;
    let mut wire = broker.wire().await;
    let transaction = FindCoordinatorRequest::default()
        .with_key_type(1)
        .with_coordinator_keys(vec![text("t")]);
    assert_eq!(wire.call(4, &transaction).await.coordinators[0].error_code, 15);
}

#[cfg(feature = "faults")]
#[tokio::test]
async fn a_coordinator_moves() {
    let broker = eager().await;
    broker.topic("ping", 1).await;
    let (second, addr) = broker.faults.add_node().await.unwrap();
    let mut wires = [broker.wire().await, Wire::to(addr).await];
    for (node, other) in [(1, second), (second, 1)] {
        broker.faults.move_coordinator("positions", node).unwrap();
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("positions")]);
        for wire in &mut wires {
            assert_eq!(wire.call(4, &request).await.coordinators[0].node_id.0, node);
        }
        let wire = |node: i32| usize::try_from(node - 1).unwrap();
        assert_eq!(
            committed(&mut wires[wire(other)], commit("ping", &[(0, 1)])).await,
            [16]
        );
        let refused = wires[wire(other)].call(9, &positions(9, None)).await;
        assert_eq!(refused.groups[0].error_code, 16);
        let refused = wires[wire(other)]
            .call(BEAT, &join("positions", "one", &["ping"]))
            .await;
        assert_eq!(refused.error_code, 16);
        assert_eq!(committed(&mut wires[wire(node)], commit("ping", &[(0, 1)])).await, [0]);
    }
    // With its node the coordinator goes where a node runs; the positions are there already.
    broker.faults.stop_node(second).await;
    assert_eq!(broker.faults.coordinator("positions"), Some(1));
    assert_eq!(offsets(9, &wires[0].call(9, &positions(9, None)).await), [1]);
    assert!(broker.faults.move_coordinator("positions", second).is_err());
}

#[cfg(feature = "faults")]
#[tokio::test]
async fn a_member_is_fenced() {
    let broker = eager().await;
    broker.topic("ping", 1).await;
    let mut wire = broker.wire().await;
    wire.call(BEAT, &join("g", "one", &["ping"])).await;
    assert_eq!(broker.faults.members("g"), ["one"]);
    broker.faults.fence_member("g", "one").unwrap();
    assert_eq!(wire.call(BEAT, &beat("g", "one", 2)).await.error_code, 25);
    broker.faults.refuse(
        broker::ApiKey::ConsumerGroupHeartbeat,
        broker::ResponseError::CoordinatorLoadInProgress,
        1,
    );
    assert_eq!(wire.call(BEAT, &join("g", "one", &["ping"])).await.error_code, 14);
    assert_eq!(wire.call(BEAT, &join("g", "one", &["ping"])).await.error_code, 0);
}
