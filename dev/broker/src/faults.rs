//! Faults that a test stages: every way in which a broker can be slow, wrong, silent or gone.
//!
//! The handle talks to the broker beside the protocol; it works from any task, before and while the broker runs. What is
//! staged for the calls of an API takes effect in the order the calls come in, on whatever connection.

mod poison;
mod stage;

use std::{io, net::SocketAddr, ops::Range, sync::Arc, time::Duration};

use kafka_protocol::{error::ResponseError, messages::ApiKey};
use tokio::net::TcpListener;

pub use self::poison::Poison;
pub(crate) use self::stage::{Line, Stage};
use crate::{
    batch::Batch,
    cluster::Cluster,
    groups::{Group, Membership},
    partition::Partition,
    staged::Ending,
    topics::Topic,
};

/// Switches that make a [`Broker`](crate::Broker) fail. Clones act on the same broker.
///
/// Where a method takes a number of `calls`, it is about the next so many calls of that API; staging the same thing for
/// the same API again replaces what was staged before, and 0 takes it back. Different things for the same API add up:
/// a call may be delayed and refused.
///
/// Methods that name something which does not exist fail as the protocol would, with `UNKNOWN_TOPIC_OR_PARTITION`.
#[derive(Debug, Clone)]
pub struct Faults {
    cluster: Arc<Cluster>,
}

impl Faults {
    /// For `calls`: until [`heal`](Faults::heal).
    pub const ALWAYS: usize = usize::MAX;

    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Faults { cluster }
    }

    /// Answers with this error wherever the answer has room for one (each partition or topic), and does nothing else.
    pub fn refuse(&self, api: ApiKey, error: ResponseError, calls: usize) {
        self.cluster.stage.plan(api, |plan| plan.refusal.set(error, calls));
    }

    /// Does what is asked, and holds the answer back. What comes behind it on the same connection waits too.
    pub fn delay(&self, api: ApiKey, by: Duration, calls: usize) {
        self.cluster.stage.plan(api, |plan| plan.delay.set(by, calls));
    }

    /// Does what is asked, answers at once, and names this throttle time (KIP-219); full ms.
    pub fn throttle(&self, api: ApiKey, time: Duration, calls: usize) {
        self.cluster.stage.plan(api, |plan| plan.throttle.set(time, calls));
    }

    /// Closes the connection instead of doing what is asked.
    pub fn drop_before(&self, api: ApiKey, calls: usize) {
        self.cluster
            .stage
            .plan(api, |plan| plan.ending.set(Ending::DropBefore, calls));
    }

    /// Does what is asked, and closes the connection instead of answering. Replaces `drop_before` and `mute`.
    pub fn drop_after(&self, api: ApiKey, calls: usize) {
        self.cluster
            .stage
            .plan(api, |plan| plan.ending.set(Ending::DropAfter, calls));
    }

    /// Does what is asked, and never again says anything on that connection, which stays open.
    pub fn mute(&self, api: ApiKey, calls: usize) {
        self.cluster
            .stage
            .plan(api, |plan| plan.ending.set(Ending::Mute, calls));
    }

    /// How many calls of this API have been taken up so far, refused ones included.
    pub fn seen(&self, api: ApiKey) -> usize {
        self.cluster.stage.seen(api)
    }

    /// Connections are accepted and requests taken in, but nothing is done and nothing answered: a stopped process.
    pub fn pause(&self) {
        self.cluster.stage.switch(|switches| switches.paused = true);
    }

    /// Goes on where `pause` stopped, with everything that has come in since.
    pub fn resume(&self) {
        self.cluster.stage.switch(|switches| switches.paused = false);
    }

    /// Closes connections on which nothing was asked for this long, from now on counted anew (Kafka's
    /// `connections.max.idle.ms`). None, as at the start: never.
    pub fn close_idle_after(&self, limit: Option<Duration>) {
        self.cluster.stage.switch(|switches| switches.idle_limit = limit);
    }

    /// Closes all connections there are. New ones are welcome.
    pub fn disconnect(&self) {
        self.cluster.stage.switch(|switches| switches.cuts += 1);
    }

    /// Takes back everything staged so far, pauses and idle limits included. Moved leaders and coordinators, logs and muted connections
    /// stay as they are.
    pub fn heal(&self) {
        self.cluster.stage.heal();
    }

    /// Starts a second node (a third, …) at a free port beside the first, for the same topics; gives its id and address.
    /// It leads nothing yet.
    ///
    /// # Errors
    /// If the port cannot be bound, or the broker does not run any more.
    pub async fn add_node(&self) -> io::Result<(i32, SocketAddr)> {
        let beside = self.cluster.nodes().first().map(|node| node.addr.ip());
        let ip = beside.ok_or_else(|| io::Error::other("no node listens"))?;
        let node = self.cluster.join(TcpListener::bind((ip, 0)).await?)?;
        Ok((node.id, node.addr))
    }

    /// Ends a node as SIGKILL would: its connections break and its port is closed when this returns. What it led is led
    /// by the first node that still runs, if there is one; the logs stay. Nothing happens to a node that does not run.
    pub async fn stop_node(&self, node: i32) {
        if let Some(running) = self.cluster.leave(node) {
            drop(running.stop);
            // Resolves when the other end is dropped; nothing is ever sent.
            let _ = running.stopped.await;
        }
    }

    /// Starts a stopped node again, at the same port.
    ///
    /// # Errors
    /// If there is no such node, or the port cannot be bound.
    pub async fn start_node(&self, node: i32) -> io::Result<()> {
        let addr = self.cluster.addr(node);
        let addr = addr.ok_or_else(|| io::Error::other("there is no such node"))?;
        self.cluster.rejoin(node, TcpListener::bind(addr).await?)
    }

    /// Makes a node the leader of a partition, in a new epoch. The old leader lives on and answers
    /// `NOT_LEADER_OR_FOLLOWER`; waiting fetches get that answer at once.
    ///
    /// # Errors
    /// `BROKER_NOT_AVAILABLE` if there is no such node.
    pub fn move_leader(&self, topic: &str, partition: i32, node: i32) -> Result<(), ResponseError> {
        if !self.cluster.nodes().iter().any(|known| known.id == node) {
            return Err(ResponseError::BrokerNotAvailable);
        }
        self.with(topic, partition, |partition| partition.lead(node))
    }

    /// Makes a node the coordinator of a group. The old one answers `NOT_COORDINATOR`; members have their whole session
    /// to find the new one. It lasts as long as the node runs.
    ///
    /// # Errors
    /// `BROKER_NOT_AVAILABLE` if there is no such node.
    pub fn move_coordinator(&self, group: &str, node: i32) -> Result<(), ResponseError> {
        if !self.cluster.nodes().iter().any(|known| known.id == node) {
            return Err(ResponseError::BrokerNotAvailable);
        }
        self.cluster.stage.move_coordinator(group, node);
        self.cluster.groups.restart_clocks(&self.cluster.view());
        Ok(())
    }

    /// The node that coordinates a group, whether there is such a group or not; `None` if no node runs.
    pub fn coordinator(&self, group: &str) -> Option<i32> {
        self.cluster.coordinator(group).map(|node| node.id)
    }

    /// Removes a member from its group, as if its session had ended.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`, or `UNKNOWN_MEMBER_ID`.
    pub fn fence_member(&self, group: &str, member: &str) -> Result<(), ResponseError> {
        self.cluster.groups.fence(group, member, &self.cluster.view())
    }

    /// The ids of the members of a group, in order; empty if there is none.
    pub fn members(&self, group: &str) -> Vec<String> {
        let ids = |group: &Group| {
            let members = group.membership.iter().flat_map(Membership::members);
            members.map(|(id, ..)| id.clone()).collect()
        };
        let found = self.cluster.groups.with(group, &self.cluster.view(), ids);
        found.unwrap_or_default()
    }

    /// The position a group has committed in a partition.
    pub fn position(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let of = |group: &Group| Some(group.positions.of(topic, partition)?.offset);
        self.cluster.groups.with(group, &self.cluster.view(), of).ok()?
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// As `CreateTopics` answers.
    pub fn create_topic(&self, topic: &str, partitions: usize) -> Result<(), ResponseError> {
        self.cluster.create_topic(topic, partitions).map(drop)
    }

    /// Adds partitions to a topic, so that it has `partitions`.
    ///
    /// # Errors
    /// As `CreatePartitions` answers.
    pub fn grow_topic(&self, topic: &str, partitions: usize) -> Result<(), ResponseError> {
        self.cluster.grow_topic(topic, partitions)
    }

    /// Deletes a topic. Waiting fetches learn it at once.
    ///
    /// # Errors
    /// If there is none.
    pub fn delete_topic(&self, topic: &str) -> Result<(), ResponseError> {
        let topic = self.cluster.topics.named(topic)?;
        self.cluster.delete_topic(&topic)
    }

    /// Deletes a topic and creates it anew: empty, with as many partitions, and another id.
    ///
    /// # Errors
    /// If there is none.
    pub fn recreate_topic(&self, topic: &str) -> Result<(), ResponseError> {
        let old: Arc<Topic> = self.cluster.topics.named(topic)?;
        self.cluster.delete_topic(&old)?;
        self.create_topic(topic, old.partitions.len())
    }

    /// Cuts a log off at `offset`, in a new epoch, as an unclean leader election does. A batch that begins below `offset`
    /// and ends past it goes too.
    ///
    /// # Errors
    /// `OFFSET_OUT_OF_RANGE` if there is no such offset.
    pub fn truncate(&self, topic: &str, partition: i32, offset: i64) -> Result<(), ResponseError> {
        self.with(topic, partition, |partition| partition.truncate(offset))?
            .map_err(ResponseError::from)
    }

    /// The offsets of a partition, from its start to its end.
    ///
    /// # Errors
    /// If there is no such partition.
    pub fn offsets(&self, topic: &str, partition: i32) -> Result<Range<i64>, ResponseError> {
        self.with(topic, partition, Partition::offsets)
    }

    /// Appends a batch of `records` records that clients choke on, and gives its first offset.
    ///
    /// # Errors
    /// If there is no such partition.
    pub fn append(&self, topic: &str, partition: i32, poison: Poison, records: usize) -> Result<i64, ResponseError> {
        self.append_verbatim(topic, partition, &poison.batch(records))
    }

    /// Appends bytes as a batch, unchecked; only the base offset and the leader epoch are set. Gives its first offset.
    ///
    /// # Errors
    /// `CORRUPT_MESSAGE` if there is no whole header with at least one record.
    pub fn append_verbatim(&self, topic: &str, partition: i32, batch: &[u8]) -> Result<i64, ResponseError> {
        let batch = Batch::verbatim(batch).ok_or(ResponseError::CorruptMessage)?;
        self.with(topic, partition, |partition| partition.append_verbatim(batch))
    }

    fn with<T>(&self, topic: &str, index: i32, act: impl FnOnce(&Partition) -> T) -> Result<T, ResponseError> {
        let topic = self.cluster.topics.named(topic)?;
        topic
            .partition(index)
            .map(act)
            .ok_or(ResponseError::UnknownTopicOrPartition)
    }
}
