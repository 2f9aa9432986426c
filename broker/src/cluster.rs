//! What all connections share: the topics, the nodes that lead them, and what is staged for tests.
//!
//! There is one broker, but it may answer under several node ids, each with its own listener: that is how a test moves a
//! leader. All of them serve the same topics.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use kafka_protocol::error::ResponseError;
use parking_lot::RwLock;
use tokio::{net::TcpListener, sync::mpsc};

use crate::{
    config::Config,
    faults::Stage,
    partition::Partition,
    topics::{Topic, Topics},
};

/// The id of the first node, which leads whatever is created.
pub(crate) const FIRST_NODE: i32 = 1;

/// A listener and the node that answers there.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Its id in Metadata.
    pub(crate) id: i32,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
}

/// A listener that is to be served.
#[derive(Debug)]
pub(crate) struct Joining {
    /// The node.
    pub(crate) node: Node,
    /// Its listener.
    pub(crate) listener: TcpListener,
}

/// The broker behind the connections.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// What was chosen at the start.
    pub(crate) config: Config,
    /// All topics.
    pub(crate) topics: Topics,
    /// What tests make it do.
    pub(crate) stage: Stage,
    nodes: RwLock<Vec<Node>>,
    joining: mpsc::Sender<Joining>,
    next_producer_id: AtomicI64,
}

impl Cluster {
    /// A cluster without nodes. The listeners of those that join come out of the channel.
    pub(crate) fn new(config: Config) -> (Arc<Self>, mpsc::Receiver<Joining>) {
        // Room for as many nodes as tests start in a row; beyond that `join` fails.
        let (joining, joined) = mpsc::channel(64);
        let cluster = Cluster {
            config,
            topics: Topics::default(),
            stage: Stage::new(),
            nodes: RwLock::default(),
            joining,
            next_producer_id: AtomicI64::new(0),
        };
        (Arc::new(cluster), joined)
    }

    /// Adds a node that answers at `listener`.
    ///
    /// # Errors
    /// If the listener has no address, or nobody serves new nodes any more.
    pub(crate) fn join(&self, listener: TcpListener) -> std::io::Result<Node> {
        let addr = listener.local_addr()?;
        let mut nodes = self.nodes.write();
        let id = nodes
            .iter()
            .map(|node| node.id)
            .max()
            .map_or(FIRST_NODE, |id| id.saturating_add(1));
        let node = Node { id, addr };
        let joining = Joining {
            node: node.clone(),
            listener,
        };
        self.joining
            .try_send(joining)
            .map_err(|_| std::io::Error::other("the broker does not run"))?;
        nodes.push(node.clone());
        Ok(node)
    }

    /// The nodes there are.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        self.nodes.read().clone()
    }

    /// Creates a topic.
    pub(crate) fn create_topic(&self, name: &str, partitions: usize) -> Result<Arc<Topic>, ResponseError> {
        let partition = || Partition::new(FIRST_NODE, self.config.retention_bytes);
        let topic = self.topics.create(name, partitions, partition)?;
        tracing::info!(topic = name, partitions, "topic created");
        Ok(topic)
    }

    /// Deletes a topic.
    pub(crate) fn delete_topic(&self, topic: &Topic) -> Result<(), ResponseError> {
        self.topics.delete(topic)?;
        tracing::info!(topic = topic.name.as_str(), "topic deleted");
        Ok(())
    }

    /// A producer id nobody had before.
    pub(crate) fn new_producer_id(&self) -> i64 {
        // Only its uniqueness matters.
        self.next_producer_id.fetch_add(1, Ordering::Relaxed)
    }
}
