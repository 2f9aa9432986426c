//! Requests of the tests to the coordinator of a group.

use std::time::Duration;

use e2e::{
    fixture::Fixture,
    wait::{WAIT_LIMIT, until_eq},
};
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, CreatePartitionsRequest, FindCoordinatorRequest, OffsetFetchRequest,
    create_partitions_request::CreatePartitionsTopic,
    offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics},
};
use tokio::time::interval;

use crate::conformance::client::{Client, beat, group, join, text, topic};

/// The heartbeat interval of a scripted member.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);

const MEMBER: &str = "a member";

/// The coordinator of one group, for the request topic of a fixture.
pub(crate) struct Coordinator {
    client: Client,
    group: String,
    topic: String,
    /// The epoch of the member after [`Coordinator::join`].
    epoch: i32,
}

// === impl Coordinator ===

impl Coordinator {
    /// Connects to the coordinator of a group, which need not exist.
    pub(crate) async fn of(fixture: &Fixture, group: &str) -> Self {
        Self {
            client: Client::to_coordinator(fixture.brokers(), group).await,
            group: group.to_owned(),
            topic: fixture.ping_name().to_owned(),
            epoch: 0,
        }
    }

    /// The committed offset of a partition; -1 if there is none.
    pub(crate) async fn position(&mut self, partition: i32) -> i64 {
        let fetch = OffsetFetchRequestTopics::default()
            .with_name(topic(&self.topic))
            .with_partition_indexes(vec![partition]);
        let fetch = OffsetFetchRequestGroup::default()
            .with_group_id(group(&self.group))
            .with_topics(Some(vec![fetch]));
        let request = OffsetFetchRequest::default().with_groups(vec![fetch]);
        let response = self.client.call(9, &request).await;
        let found = &response.groups[0];
        assert_eq!(found.error_code, 0);
        found.topics[0].partitions[0].committed_offset
    }

    /// Waits until the committed offset of a partition is the expected one.
    pub(crate) async fn until_position(&mut self, partition: i32, expected: i64) {
        until_eq("the committed offset", WAIT_LIMIT, expected, async || {
            self.position(partition).await
        })
        .await;
    }

    /// Joins the group as a member.
    pub(crate) async fn join(&mut self) {
        let request = join(&self.group, MEMBER, &[&self.topic]);
        self.epoch = self.heartbeat(&request).await;
    }

    /// Keeps the member in the group. Never returns.
    pub(crate) async fn send_heartbeats(&mut self) {
        let mut ticks = interval(HEARTBEAT_INTERVAL);
        loop {
            ticks.tick().await;
            let request = beat(&self.group, MEMBER, self.epoch);
            self.epoch = self.heartbeat(&request).await;
        }
    }

    async fn heartbeat(&mut self, request: &ConsumerGroupHeartbeatRequest) -> i32 {
        let response = self.client.call(1, request).await;
        assert_eq!(response.error_code, 0);
        response.member_epoch
    }
}

/// The node that coordinates a group.
pub(crate) async fn coordinator_node(brokers: &str, group: &str) -> u32 {
    let mut any = Client::connect(brokers).await;
    let request = FindCoordinatorRequest::default().with_key(text(group));
    let found = any.call(3, &request).await;
    assert_eq!(found.error_code, 0);
    u32::try_from(*found.node_id).unwrap()
}

/// Increases the number of partitions of a topic.
pub(crate) async fn add_partitions(brokers: &str, name: &str, partitions: i32) {
    let grown = CreatePartitionsTopic::default()
        .with_name(topic(name))
        .with_count(partitions)
        .with_assignments(None);
    let request = CreatePartitionsRequest::default()
        .with_topics(vec![grown])
        .with_timeout_ms(10_000);
    let response = Client::connect(brokers).await.call(3, &request).await;
    assert_eq!(response.results[0].error_code, 0);
}
