//! Faults that a test injects: error responses, dropped and idle connections, a paused broker, stopped nodes, moved
//! leaders and coordinators, truncated logs, and batches that clients cannot decode.
//!
//! The handle does not use the protocol. It works from any task, before and while the broker runs.

mod injector;
mod poison;

use std::{io, net::SocketAddr, ops::Range, sync::Arc, time::Duration};

use kafka_protocol::{error::ResponseError, messages::ApiKey};
use tokio::net::TcpListener;

pub(crate) use self::injector::{ConnectionFaults, FaultInjector};
pub use self::poison::Poison;
use crate::{
    batch::Batch,
    cluster::Cluster,
    groups::{ConsumerGroup, Group},
    partition::Partition,
};

/// Injects faults into a [`Broker`](crate::Broker). Clones act on the same broker.
///
/// Where a method takes a number of `requests`, the fault affects the next requests of that API, in order of arrival on
/// any connection. A second call for the same API replaces the first, and 0 removes the fault.
///
/// Methods that name a missing topic or partition fail with `UNKNOWN_TOPIC_OR_PARTITION`.
#[derive(Debug, Clone)]
pub struct Faults {
    cluster: Arc<Cluster>,
}

// === impl Faults ===

impl Faults {
    /// For `requests`: until [`heal`](Faults::heal).
    pub const ALWAYS: usize = usize::MAX;

    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Faults { cluster }
    }

    /// Responds with this error in every part of the response that has an error code. The request has no effect.
    pub fn refuse(&self, api: ApiKey, error: ResponseError, requests: usize) {
        self.cluster.faults.set(api, |faults| faults.error.set(error, requests));
    }

    /// Closes the connection before the request has an effect.
    pub fn drop_before(&self, api: ApiKey, requests: usize) {
        self.cluster.faults.set(api, |faults| faults.drop.set((), requests));
    }

    /// The number of requests of this API so far, refused ones included.
    pub fn seen(&self, api: ApiKey) -> usize {
        self.cluster.faults.seen(api)
    }

    /// Accepts connections and requests but handles and answers none, like a stopped process (SIGSTOP).
    pub fn pause(&self) {
        self.cluster.faults.set_connections(|state| state.paused = true);
    }

    /// Ends [`pause`](Faults::pause): handles the requests received since.
    pub fn resume(&self) {
        self.cluster.faults.set_connections(|state| state.paused = false);
    }

    /// Closes connections without a request for this long, counted from now on (Kafka's `connections.max.idle.ms`).
    /// None, the default: never.
    pub fn close_idle_after(&self, limit: Option<Duration>) {
        self.cluster.faults.set_connections(|state| state.max_idle = limit);
    }

    /// Closes all present connections. New ones are accepted.
    pub fn disconnect(&self) {
        self.cluster.faults.set_connections(|state| state.disconnects += 1);
    }

    /// Removes `refuse`, `drop_before`, `pause` and `close_idle_after`. Leaders, coordinators, nodes and logs stay as they
    /// are.
    pub fn heal(&self) {
        self.cluster.faults.clear();
    }

    /// Starts another node at a free port, for the same topics; gives its id and address. It leads no partition yet.
    ///
    /// # Errors
    /// If the port cannot be bound, or the broker does not run.
    pub async fn add_node(&self) -> io::Result<(i32, SocketAddr)> {
        let first = self.cluster.nodes().first().map(|node| node.addr.ip());
        let ip = first.ok_or_else(|| io::Error::other("no node runs"))?;
        let node = self.cluster.add_node(TcpListener::bind((ip, 0)).await?)?;
        Ok((node.id, node.addr))
    }

    /// Stops a node as SIGKILL would: on return its connections and its port are closed. The first node still running
    /// becomes the leader of its partitions; the logs stay. No effect on a node that does not run.
    pub async fn stop_node(&self, node: i32) {
        if let Some(handle) = self.cluster.stop_node(node) {
            drop(handle.stop);
            // Resolves when the sender is dropped; nothing is ever sent.
            let _ = handle.stopped.await;
        }
    }

    /// Starts a stopped node again, at the same port.
    ///
    /// # Errors
    /// If there is no such node, or the port cannot be bound.
    pub async fn start_node(&self, node: i32) -> io::Result<()> {
        let addr = self.cluster.node_addr(node);
        let addr = addr.ok_or_else(|| io::Error::other("there is no such node"))?;
        self.cluster.restart_node(node, TcpListener::bind(addr).await?)
    }

    /// Makes a node the leader of a partition, in a new epoch. The old leader responds `NOT_LEADER_OR_FOLLOWER`, to
    /// waiting fetches at once.
    ///
    /// # Errors
    /// `BROKER_NOT_AVAILABLE` if the node does not run.
    pub fn move_leader(&self, topic: &str, partition: i32, node: i32) -> Result<(), ResponseError> {
        self.check_node(node)?;
        self.with_partition(topic, partition, |partition| partition.set_leader(node))
    }

    /// Makes a node the coordinator of a group while it runs. The old one responds `NOT_COORDINATOR`. Session timeouts
    /// start again.
    ///
    /// # Errors
    /// `BROKER_NOT_AVAILABLE` if the node does not run.
    pub fn move_coordinator(&self, group: &str, node: i32) -> Result<(), ResponseError> {
        self.check_node(node)?;
        self.cluster.faults.move_coordinator(group, node);
        self.cluster.groups.restart_timers(&self.cluster.snapshot());
        Ok(())
    }

    /// Removes a member from its group, as its session timeout would.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`, or `UNKNOWN_MEMBER_ID`.
    pub fn fence_member(&self, group: &str, member: &str) -> Result<(), ResponseError> {
        self.cluster.groups.fence(group, member, &self.cluster.snapshot())
    }

    /// The member ids of a group, in order; empty if there is no such group.
    pub fn members(&self, group: &str) -> Vec<String> {
        let ids = |group: &Group| {
            let members = group.consumer_group.iter().flat_map(ConsumerGroup::members);
            members.map(|(id, ..)| id.clone()).collect()
        };
        let found = self.cluster.groups.with(group, &self.cluster.snapshot(), ids);
        found.unwrap_or_default()
    }

    /// Truncates a log at `offset`, in a new leader epoch, as an unclean leader election does. A batch that holds `offset`
    /// is removed.
    ///
    /// # Errors
    /// `OFFSET_OUT_OF_RANGE` if there is no such offset.
    pub fn truncate(&self, topic: &str, partition: i32, offset: i64) -> Result<(), ResponseError> {
        self.with_partition(topic, partition, |partition| partition.truncate(offset))?
            .map_err(ResponseError::from)
    }

    /// The offsets of a partition, from the log start offset to the high watermark.
    ///
    /// # Errors
    /// If there is no such partition.
    pub fn offsets(&self, topic: &str, partition: i32) -> Result<Range<i64>, ResponseError> {
        self.with_partition(topic, partition, Partition::offsets)
    }

    /// Appends a batch of `records` poison records, and gives its base offset.
    ///
    /// # Errors
    /// If there is no such partition.
    pub fn append(&self, topic: &str, partition: i32, poison: Poison, records: usize) -> Result<i64, ResponseError> {
        let batch = Batch::unchecked(&poison.batch(records)).ok_or(ResponseError::CorruptMessage)?;
        self.with_partition(topic, partition, |partition| partition.append_unchecked(batch))
    }

    fn check_node(&self, id: i32) -> Result<(), ResponseError> {
        if self.cluster.nodes().iter().any(|node| node.id == id) {
            Ok(())
        } else {
            Err(ResponseError::BrokerNotAvailable)
        }
    }

    fn with_partition<T>(
        &self,
        topic: &str,
        index: i32,
        act: impl FnOnce(&Partition) -> T,
    ) -> Result<T, ResponseError> {
        let topic = self.cluster.topics.by_name(topic)?;
        Ok(act(topic.partition(index)?))
    }
}
