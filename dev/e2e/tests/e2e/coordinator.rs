//! What the coordinator of a group knows, and what others tell it.

use std::time::Duration;

use e2e::{
    scene::Scene,
    wait::{SOON, until_eq},
};
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, CreatePartitionsRequest, FindCoordinatorRequest, OffsetFetchRequest,
    create_partitions_request::CreatePartitionsTopic,
    offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics},
};
use tokio::time::interval;

use crate::conformance::wire::{Wire, beat, group, join, text, topic};

/// Between the heartbeats of a member that a test plays.
const BEAT: Duration = Duration::from_millis(500);

const MEMBER: &str = "a member";

/// A coordinator, asked about one group and the topic of a scene's requests.
pub(crate) struct Coordinator {
    wire: Wire,
    group: String,
    topic: String,
    /// Of the member that this may be.
    epoch: i32,
}

// === impl Coordinator ===

impl Coordinator {
    /// The coordinator of a group, which need not exist.
    pub(crate) async fn of(scene: &Scene, group: &str) -> Self {
        Self {
            wire: Wire::to_coordinator(scene.brokers(), group).await,
            group: group.to_owned(),
            topic: scene.ping_name().to_owned(),
            epoch: 0,
        }
    }

    /// The position in a partition; -1 where there is none.
    pub(crate) async fn position(&mut self, partition: i32) -> i64 {
        let asked = OffsetFetchRequestTopics::default()
            .with_name(topic(&self.topic))
            .with_partition_indexes(vec![partition]);
        let asked = OffsetFetchRequestGroup::default()
            .with_group_id(group(&self.group))
            .with_topics(Some(vec![asked]));
        let request = OffsetFetchRequest::default().with_groups(vec![asked]);
        let answer = self.wire.call(9, &request).await;
        let found = &answer.groups[0];
        assert_eq!(found.error_code, 0);
        found.topics[0].partitions[0].committed_offset
    }

    /// Waits until the position in a partition is the expected one.
    pub(crate) async fn until_position(&mut self, partition: i32, expected: i64) {
        until_eq("the position", SOON, expected, async || self.position(partition).await).await;
    }

    /// Makes it a group with a member.
    pub(crate) async fn join(&mut self) {
        let request = join(&self.group, MEMBER, &[&self.topic]);
        self.epoch = self.heartbeat(&request).await;
    }

    /// Keeps the member in the group, for ever.
    pub(crate) async fn stay(&mut self) {
        let mut beats = interval(BEAT);
        loop {
            beats.tick().await;
            let request = beat(&self.group, MEMBER, self.epoch);
            self.epoch = self.heartbeat(&request).await;
        }
    }

    async fn heartbeat(&mut self, request: &ConsumerGroupHeartbeatRequest) -> i32 {
        let answer = self.wire.call(1, request).await;
        assert_eq!(answer.error_code, 0);
        answer.member_epoch
    }
}

/// The number of the node that coordinates a group, and its address.
pub(crate) async fn node(brokers: &str, group: &str) -> (u32, String) {
    let mut any = Wire::connect(brokers).await;
    let request = FindCoordinatorRequest::default().with_key(text(group));
    let found = any.call(3, &request).await;
    assert_eq!(found.error_code, 0);
    let addr = format!("{}:{}", found.host.as_str(), found.port);
    (u32::try_from(*found.node_id).unwrap(), addr)
}

/// Adds partitions to a topic, so that it has this many.
pub(crate) async fn grow(brokers: &str, name: &str, partitions: i32) {
    let grown = CreatePartitionsTopic::default()
        .with_name(topic(name))
        .with_count(partitions)
        .with_assignments(None);
    let request = CreatePartitionsRequest::default()
        .with_topics(vec![grown])
        .with_timeout_ms(10_000);
    let answer = Wire::connect(brokers).await.call(3, &request).await;
    assert_eq!(answer.results[0].error_code, 0);
}
