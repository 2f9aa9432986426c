//! The state that all connections share: topics, groups, nodes and injected faults.
//!
//! The process is one broker. It can have several nodes, each with an id and a listener, so that tests can move a leader
//! or a coordinator. All nodes serve the same topics and groups.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use kafka_protocol::error::ResponseError;
use parking_lot::RwLock;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    config::Config,
    faults::FaultInjector,
    groups::{Groups, Snapshot, TopicMetadata},
    partition::Partition,
    topics::{Topic, Topics},
};

/// The id of the first node, which is also the controller.
pub(crate) const FIRST_NODE: i32 = 1;
/// Nodes that can be added before [`Broker::run`](crate::Broker::run) takes them; beyond that `add_node` fails.
const MAX_PENDING_NODES: usize = 64;

/// A node of the cluster.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) id: i32,
    pub(crate) addr: SocketAddr,
}

/// A node that is to accept connections.
#[derive(Debug)]
pub(crate) struct NodeListener {
    pub(crate) node: Node,
    pub(crate) listener: TcpListener,
    /// Resolves when the node is to stop.
    pub(crate) stop: oneshot::Receiver<Infallible>,
    /// Dropped when the node has stopped.
    pub(crate) stopped: oneshot::Sender<Infallible>,
}

/// Stops a node: drop `stop`, and `stopped` resolves when the node has stopped. Nothing is ever sent.
#[derive(Debug)]
pub(crate) struct NodeHandle {
    pub(crate) stop: oneshot::Sender<Infallible>,
    pub(crate) stopped: oneshot::Receiver<Infallible>,
}

#[derive(Debug)]
struct RegisteredNode {
    node: Node,
    /// None while the node is stopped.
    handle: Option<NodeHandle>,
}

/// The state that all connections share.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) config: Config,
    pub(crate) topics: Topics,
    pub(crate) groups: Groups,
    pub(crate) faults: FaultInjector,
    nodes: RwLock<Vec<RegisteredNode>>,
    new_nodes: mpsc::Sender<NodeListener>,
    next_producer_id: AtomicI64,
}

// === impl Cluster ===

impl Cluster {
    /// A cluster without nodes. The receiver gives the listener of each added node.
    pub(crate) fn new(config: Config) -> (Arc<Self>, mpsc::Receiver<NodeListener>) {
        let (new_nodes, listeners) = mpsc::channel(MAX_PENDING_NODES);
        let cluster = Cluster {
            config,
            topics: Topics::default(),
            groups: Groups::default(),
            faults: FaultInjector::default(),
            nodes: RwLock::default(),
            new_nodes,
            next_producer_id: AtomicI64::new(0),
        };
        (Arc::new(cluster), listeners)
    }

    /// Adds a node. It leads no partition yet, unless it is the first.
    ///
    /// # Errors
    /// If the listener has no address, or the broker has stopped.
    pub(crate) fn add_node(&self, listener: TcpListener) -> std::io::Result<Node> {
        let addr = listener.local_addr()?;
        let mut nodes = self.nodes.write();
        let ids = nodes.iter().map(|registered| registered.node.id);
        let id = ids.max().map_or(FIRST_NODE, |id| id.saturating_add(1));
        let node = Node { id, addr };
        let handle = Some(self.listen(node.clone(), listener)?);
        nodes.push(RegisteredNode {
            node: node.clone(),
            handle,
        });
        Ok(node)
    }

    fn listen(&self, node: Node, listener: TcpListener) -> std::io::Result<NodeHandle> {
        let (stop, stop_requested) = oneshot::channel();
        let (has_stopped, stopped) = oneshot::channel();
        let listener = NodeListener {
            node,
            listener,
            stop: stop_requested,
            stopped: has_stopped,
        };
        self.new_nodes
            .try_send(listener)
            .map_err(|_| std::io::Error::other("the broker does not run"))?;
        Ok(NodeHandle { stop, stopped })
    }

    /// The running nodes.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        let nodes = self.nodes.read();
        let running = nodes.iter().filter(|registered| registered.handle.is_some());
        running.map(|registered| registered.node.clone()).collect()
    }

    /// Takes the handle of a node to stop it. The first node still running becomes the leader of its partitions.
    ///
    /// None if the node does not run.
    pub(crate) fn stop_node(&self, id: i32) -> Option<NodeHandle> {
        let handle = {
            let mut nodes = self.nodes.write();
            let registered = nodes.iter_mut().find(|registered| registered.node.id == id)?;
            registered.handle.take()?
        };
        if let Some(leader) = self.nodes().first() {
            for topic in self.topics.all() {
                let led = topic
                    .partitions
                    .iter()
                    .filter(|partition| partition.leader().node == id);
                led.for_each(|partition| partition.set_leader(leader.id));
            }
        }
        self.groups.restart_timers(&self.snapshot());
        Some(handle)
    }

    /// The address of a node, running or not.
    pub(crate) fn node_addr(&self, id: i32) -> Option<SocketAddr> {
        let nodes = self.nodes.read();
        let registered = nodes.iter().find(|registered| registered.node.id == id)?;
        Some(registered.node.addr)
    }

    /// Runs a stopped node again.
    pub(crate) fn restart_node(&self, id: i32, listener: TcpListener) -> std::io::Result<()> {
        let mut nodes = self.nodes.write();
        let registered = nodes.iter_mut().find(|registered| registered.node.id == id);
        let registered = registered.ok_or_else(|| std::io::Error::other("there is no such node"))?;
        registered.handle = Some(self.listen(registered.node.clone(), listener)?);
        self.groups.restart_timers(&self.snapshot());
        Ok(())
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// As [`Topics::create`].
    pub(crate) fn create_topic(&self, name: &str, partitions: usize) -> Result<Arc<Topic>, ResponseError> {
        let topic = self.topics.create(name, partitions, self.new_partition())?;
        tracing::info!(topic = name, partitions, "topic created");
        Ok(topic)
    }

    /// Increases the number of partitions of a topic to `partitions`.
    ///
    /// # Errors
    /// As [`Topics::create_partitions`].
    pub(crate) fn create_partitions(&self, name: &str, partitions: usize) -> Result<(), ResponseError> {
        self.topics.create_partitions(name, partitions, self.new_partition())?;
        tracing::info!(topic = name, partitions, "partitions added");
        Ok(())
    }

    fn new_partition(&self) -> impl Fn() -> Partition {
        let leader = self.nodes().first().map_or(FIRST_NODE, |node| node.id);
        let retention_bytes = self.config.retention_bytes;
        move || Partition::new(leader, retention_bytes)
    }

    /// Deletes a topic with the offsets committed in it.
    pub(crate) fn delete_topic(&self, topic: &Topic) -> Result<(), ResponseError> {
        self.topics.delete(topic)?;
        self.groups.delete_topic_offsets(&topic.name);
        tracing::info!(topic = topic.name.as_str(), "topic deleted");
        Ok(())
    }

    /// The coordinator of a group: stable while the same nodes run. None if no node runs.
    pub(crate) fn coordinator(&self, group: &str) -> Option<Node> {
        let mut nodes = self.nodes();
        let moved = self.faults.coordinator(group);
        let index = nodes.iter().position(|node| Some(node.id) == moved);
        let index = index.or_else(|| hash(group).checked_rem(nodes.len()))?;
        Some(nodes.swap_remove(index))
    }

    /// The input of the group coordinator at this moment.
    pub(crate) fn snapshot(&self) -> Snapshot<'_> {
        let topics = self.topics.all().into_iter().map(|topic| {
            let metadata = TopicMetadata {
                id: topic.id,
                partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
            };
            (topic.name.to_string(), metadata)
        });
        Snapshot {
            now: Instant::now(),
            topics: topics.collect(),
            config: &self.config,
        }
    }

    /// An unused producer id.
    pub(crate) fn new_producer_id(&self) -> i64 {
        // Only uniqueness matters.
        self.next_producer_id.fetch_add(1, Ordering::Relaxed)
    }
}

/// Java's `String.hashCode`, by which Kafka selects the partition of `__consumer_offsets`.
fn hash(group: &str) -> usize {
    let hash = group
        .encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    usize::try_from(hash.unsigned_abs()).unwrap_or(0)
}
