//! Committed offsets and consumer groups, over the wire.

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

use crate::support::{Connection, TestBroker, name, start, start_with};

/// The version of `ConsumerGroupHeartbeat`.
const HEARTBEAT: i16 = 1;
/// The first version of `OffsetCommit` for members.
const COMMIT: i16 = 9;

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// The group that commits offsets.
pub(crate) fn group() -> GroupId {
    GroupId(text("offsets"))
}

/// A commit without a member.
pub(crate) fn commit(topic: &str, offsets: &[(i32, i64)]) -> OffsetCommitRequest {
    let partitions = offsets.iter().map(|(index, offset)| {
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

/// A request for committed offsets; None for all.
pub(crate) fn offset_fetch(version: i16, partitions: Option<(&str, &[i32])>) -> OffsetFetchRequest {
    let request = OffsetFetchRequest::default();
    if version < 8 {
        let topics = partitions.map(|(topic, indexes)| {
            let topic = OffsetFetchRequestTopic::default().with_name(name(topic));
            vec![topic.with_partition_indexes(indexes.to_vec())]
        });
        return request.with_group_id(group()).with_topics(topics);
    }
    let topics = partitions.map(|(topic, indexes)| {
        let topic = OffsetFetchRequestTopics::default().with_name(name(topic));
        vec![topic.with_partition_indexes(indexes.to_vec())]
    });
    let group = OffsetFetchRequestGroup::default().with_group_id(group());
    request.with_groups(vec![group.with_topics(topics)])
}

/// The offsets in a response, in order.
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
    heartbeat(group, member, 0)
        .with_rebalance_timeout_ms(60_000)
        .with_subscribed_topic_names(Some(topics.iter().map(|topic| name(topic)).collect()))
        .with_topic_partitions(Some(vec![]))
}

/// A heartbeat without changes.
pub(crate) fn heartbeat(group: &str, member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
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
    heartbeat(group, member, -1)
}

/// The assignment in a response.
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

/// A broker without the assignment interval.
async fn start_without_interval() -> TestBroker {
    let mut config = Config::default();
    config.assignment_interval = Duration::ZERO;
    start_with(config).await
}

async fn committed(connection: &mut Connection, request: OffsetCommitRequest) -> Vec<i16> {
    let response = connection.call(COMMIT, &request).await;
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| partition.error_code).collect()
}

#[tokio::test]
async fn commit_keeps_metadata_and_leader_epoch() {
    let broker = start().await;
    broker.topic("ping", 2).await;
    let mut connection = broker.connect().await;
    let mut request = commit("ping", &[(0, 5), (1, 6), (2, 7)]);
    request.topics[0].partitions[0].committed_leader_epoch = 3;
    request.topics[0].partitions[1].committed_metadata = Some(text(&"x".repeat(4097)));
    // An unknown partition and too long metadata fail alone.
    assert_eq!(committed(&mut connection, request).await, [0, 12, 3]);
    assert_eq!(committed(&mut connection, commit("pong", &[(0, 5)])).await, [3]);
    let response = connection.call(9, &offset_fetch(9, Some(("ping", &[0, 1, 2])))).await;
    assert_eq!(offsets(9, &response), [5, -1, -1]);
    let first = &response.groups[0].topics[0].partitions[0];
    assert_eq!(
        (first.committed_leader_epoch, first.metadata.as_deref()),
        (3, Some("note"))
    );
    // A later commit replaces it, even with less.
    assert_eq!(committed(&mut connection, commit("ping", &[(0, 2)])).await, [0]);
    assert_eq!(offsets(9, &connection.call(9, &offset_fetch(9, None)).await), [2]);
}

#[tokio::test]
async fn offsets_are_deleted_with_topic_and_group() {
    let broker = start().await;
    let topic = broker.topic("ping", 1).await;
    let mut connection = broker.connect().await;
    committed(&mut connection, commit("ping", &[(0, 5)])).await;
    let controller = topic.client.controller_client().unwrap();
    controller.delete_topic("ping", 1000).await.unwrap();
    broker.topic("ping", 1).await;
    assert_eq!(
        offsets(9, &connection.call(9, &offset_fetch(9, Some(("ping", &[0])))).await),
        [-1]
    );
    committed(&mut connection, commit("ping", &[(0, 5)])).await;
    let request = DeleteGroupsRequest::default().with_groups_names(vec![group()]);
    assert_eq!(connection.call(2, &request).await.results[0].error_code, 0);
    assert!(offsets(9, &connection.call(9, &offset_fetch(9, None)).await).is_empty());
    assert_eq!(connection.call(2, &request).await.results[0].error_code, 69);
}

#[tokio::test]
async fn group_with_members_accepts_commits_of_members_only() {
    let broker = start_without_interval().await;
    broker.topic("ping", 1).await;
    let mut connection = broker.connect().await;
    let joined = connection.call(HEARTBEAT, &join("offsets", "one", &["ping"])).await;
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
        assert_eq!(committed(&mut connection, request).await, [error]);
    }
    let old = connection.call(8, &by("one", epoch)).await;
    assert_eq!(old.topics[0].partitions[0].error_code, 35);
    // An empty group keeps its offsets, and accepts any commit.
    assert_eq!(connection.call(HEARTBEAT, &leave("offsets", "one")).await.error_code, 0);
    assert_eq!(offsets(9, &connection.call(9, &offset_fetch(9, None)).await), [5]);
    assert_eq!(committed(&mut connection, commit("ping", &[(0, 1)])).await, [0]);
}

#[tokio::test]
async fn partition_moves_after_its_owner_reports_the_revocation() {
    let broker = start_without_interval().await;
    broker.topic("ping", 2).await;
    let mut connection = broker.connect().await;
    let one = connection.call(HEARTBEAT, &join("g", "one", &["ping"])).await;
    let [(topic, both)] = &assigned(&one).unwrap()[..] else {
        panic!("one topic");
    };
    assert_eq!(both, &[0, 1]);
    let two = connection.call(HEARTBEAT, &join("g", "two", &["ping"])).await;
    assert_eq!((two.member_epoch, assigned(&two)), (3, Some(vec![])));

    // The owner has to revoke a partition, and stays in its epoch until it reports that.
    let revoking = connection.call(HEARTBEAT, &heartbeat("g", "one", 2)).await;
    assert_eq!(
        (revoking.member_epoch, assigned(&revoking)),
        (2, Some(vec![(*topic, vec![0])]))
    );
    for request in [
        heartbeat("g", "one", 2),
        owning(heartbeat("g", "one", 2), *topic, &[0, 1]),
    ] {
        assert_eq!(connection.call(HEARTBEAT, &request).await.member_epoch, 2);
        assert_eq!(
            assigned(&connection.call(HEARTBEAT, &heartbeat("g", "two", 3)).await),
            None
        );
    }
    let revoked = connection
        .call(HEARTBEAT, &owning(heartbeat("g", "one", 2), *topic, &[0]))
        .await;
    assert_eq!((revoked.member_epoch, assigned(&revoked)), (3, None));
    let assigned_one = connection.call(HEARTBEAT, &heartbeat("g", "two", 3)).await;
    assert_eq!(assigned(&assigned_one), Some(vec![(*topic, vec![1])]));
}

#[tokio::test]
async fn new_topic_changes_the_assignment() {
    let broker = start_without_interval().await;
    let mut connection = broker.connect().await;
    let one = connection.call(HEARTBEAT, &join("g", "one", &["ping"])).await;
    assert_eq!((one.member_epoch, assigned(&one)), (2, Some(vec![])));
    broker.topic("other", 1).await;
    assert_eq!(
        connection.call(HEARTBEAT, &heartbeat("g", "one", 2)).await.member_epoch,
        2
    );
    broker.topic("ping", 1).await;
    let created = connection.call(HEARTBEAT, &heartbeat("g", "one", 2)).await;
    assert_eq!(
        (created.member_epoch, assigned(&created).unwrap()[0].1.clone()),
        (3, vec![0])
    );
}

#[tokio::test]
async fn transactions_have_no_coordinator() {
    let broker = start().await;
    let mut connection = broker.connect().await;
    let transaction = FindCoordinatorRequest::default()
        .with_key_type(1)
        .with_coordinator_keys(vec![text("t")]);
    assert_eq!(connection.call(4, &transaction).await.coordinators[0].error_code, 15);
}

#[tokio::test]
async fn old_coordinator_responds_not_coordinator() {
    let broker = start_without_interval().await;
    broker.topic("ping", 1).await;
    let (second, addr) = broker.faults.add_node().await.unwrap();
    let mut connections = [broker.connect().await, Connection::to(addr).await];
    for (node, other) in [(1, second), (second, 1)] {
        broker.faults.move_coordinator("offsets", node).unwrap();
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("offsets")]);
        for connection in &mut connections {
            assert_eq!(connection.call(4, &request).await.coordinators[0].node_id.0, node);
        }
        let index = |node: i32| usize::try_from(node - 1).unwrap();
        assert_eq!(
            committed(&mut connections[index(other)], commit("ping", &[(0, 1)])).await,
            [16]
        );
        let refused = connections[index(other)].call(9, &offset_fetch(9, None)).await;
        assert_eq!(refused.groups[0].error_code, 16);
        let refused = connections[index(other)]
            .call(HEARTBEAT, &join("offsets", "one", &["ping"]))
            .await;
        assert_eq!(refused.error_code, 16);
        assert_eq!(
            committed(&mut connections[index(node)], commit("ping", &[(0, 1)])).await,
            [0]
        );
    }
    // When the node stops, another node is the coordinator, with the same offsets.
    broker.faults.stop_node(second).await;
    assert_eq!(offsets(9, &connections[0].call(9, &offset_fetch(9, None)).await), [1]);
    assert!(broker.faults.move_coordinator("offsets", second).is_err());
}

#[tokio::test]
async fn fenced_member_gets_unknown_member_id() {
    let broker = start_without_interval().await;
    broker.topic("ping", 1).await;
    let mut connection = broker.connect().await;
    connection.call(HEARTBEAT, &join("g", "one", &["ping"])).await;
    assert_eq!(broker.faults.members("g"), ["one"]);
    broker.faults.fence_member("g", "one").unwrap();
    assert_eq!(
        connection.call(HEARTBEAT, &heartbeat("g", "one", 2)).await.error_code,
        25
    );
    broker.faults.refuse(
        broker::ApiKey::ConsumerGroupHeartbeat,
        broker::ResponseError::CoordinatorLoadInProgress,
        1,
    );
    assert_eq!(
        connection
            .call(HEARTBEAT, &join("g", "one", &["ping"]))
            .await
            .error_code,
        14
    );
    assert_eq!(
        connection
            .call(HEARTBEAT, &join("g", "one", &["ping"]))
            .await
            .error_code,
        0
    );
}
