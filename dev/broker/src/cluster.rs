//! What all connections share: the topics, the nodes that lead them, and what is staged for tests.
//!
//! There is one broker, but it may answer under several node ids, each with its own listener: that is how a test moves a
//! leader. All of them serve the same topics.

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
    faults::Stage,
    groups::{Groups, Listed, View},
    partition::Partition,
    topics::{Topic, Topics},
};

/// The id of the first node. The first that runs leads whatever is created.
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
    /// Resolves when the node is to stop.
    pub(crate) stop: oneshot::Receiver<Infallible>,
    /// Dropped when it has stopped.
    pub(crate) stopped: oneshot::Sender<Infallible>,
}

/// A node and the way to stop it.
#[derive(Debug)]
struct Seat {
    node: Node,
    /// `None` while it is stopped.
    running: Option<Running>,
}

/// Drop `stop`, and `stopped` resolves when the node has stopped. Nothing is ever sent.
#[derive(Debug)]
#[cfg_attr(not(feature = "faults"), expect(dead_code, reason = "only tests stop a node alone"))]
pub(crate) struct Running {
    pub(crate) stop: oneshot::Sender<Infallible>,
    pub(crate) stopped: oneshot::Receiver<Infallible>,
}

/// The broker behind the connections.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// What was chosen at the start.
    pub(crate) config: Config,
    /// All topics.
    pub(crate) topics: Topics,
    /// All groups.
    pub(crate) groups: Groups,
    /// What tests make it do.
    pub(crate) stage: Stage,
    seats: RwLock<Vec<Seat>>,
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
            groups: Groups::default(),
            stage: Stage::new(),
            seats: RwLock::default(),
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
        let mut seats = self.seats.write();
        let ids = seats.iter().map(|seat| seat.node.id);
        let id = ids.max().map_or(FIRST_NODE, |id| id.saturating_add(1));
        let node = Node { id, addr };
        let running = Some(self.serve(node.clone(), listener)?);
        seats.push(Seat {
            node: node.clone(),
            running,
        });
        Ok(node)
    }

    /// Has a node served.
    fn serve(&self, node: Node, listener: TcpListener) -> std::io::Result<Running> {
        let (stop, to_stop) = oneshot::channel();
        let (has_stopped, stopped) = oneshot::channel();
        let joining = Joining {
            node,
            listener,
            stop: to_stop,
            stopped: has_stopped,
        };
        self.joining
            .try_send(joining)
            .map_err(|_| std::io::Error::other("the broker does not run"))?;
        Ok(Running { stop, stopped })
    }

    /// The nodes that run.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        let seats = self.seats.read();
        let running = seats.iter().filter(|seat| seat.running.is_some());
        running.map(|seat| seat.node.clone()).collect()
    }

    /// Creates a topic.
    pub(crate) fn create_topic(&self, name: &str, partitions: usize) -> Result<Arc<Topic>, ResponseError> {
        let topic = self.topics.create(name, partitions, self.new_partition())?;
        tracing::info!(topic = name, partitions, "topic created");
        Ok(topic)
    }

    /// Adds partitions to a topic, so that it has `partitions`.
    pub(crate) fn grow_topic(&self, name: &str, partitions: usize) -> Result<(), ResponseError> {
        self.topics.grow(name, partitions, self.new_partition())?;
        tracing::info!(topic = name, partitions, "partitions added");
        Ok(())
    }

    fn new_partition(&self) -> impl Fn() -> Partition {
        let leader = self.nodes().first().map_or(FIRST_NODE, |node| node.id);
        let retention_bytes = self.config.retention_bytes;
        move || Partition::new(leader, retention_bytes)
    }

    /// Deletes a topic.
    pub(crate) fn delete_topic(&self, topic: &Topic) -> Result<(), ResponseError> {
        self.topics.delete(topic)?;
        self.groups.forget_topic(&topic.name);
        tracing::info!(topic = topic.name.as_str(), "topic deleted");
        Ok(())
    }

    /// The node that coordinates a group, if any runs: one for each group, as long as the same nodes run.
    pub(crate) fn coordinator(&self, group: &str) -> Option<Node> {
        let mut nodes = self.nodes();
        let moved = self.stage.coordinator(group);
        let place = nodes.iter().position(|node| Some(node.id) == moved);
        let place = place.or_else(|| hash(group).checked_rem(nodes.len()))?;
        Some(nodes.swap_remove(place))
    }

    /// What groups see now.
    pub(crate) fn view(&self) -> View<'_> {
        let topics = self.topics.all().into_iter().map(|topic| {
            let listed = Listed {
                id: topic.id,
                partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
            };
            (topic.name.to_string(), listed)
        });
        View {
            now: Instant::now(),
            topics: topics.collect(),
            config: &self.config,
        }
    }

    /// A producer id nobody had before.
    pub(crate) fn new_producer_id(&self) -> i64 {
        // Only its uniqueness matters.
        self.next_producer_id.fetch_add(1, Ordering::Relaxed)
    }
}

/// Any hash would do; this is Java's, by which Kafka chooses.
fn hash(group: &str) -> usize {
    let hash = group
        .encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    usize::try_from(hash.unsigned_abs()).unwrap_or(0)
}

/// What only a test does to nodes.
#[cfg(feature = "faults")]
impl Cluster {
    /// Takes a node out; its partitions get the next leader that runs, if there is one. `None` if it does not run.
    pub(crate) fn leave(&self, id: i32) -> Option<Running> {
        let running = {
            let mut seats = self.seats.write();
            let seat = seats.iter_mut().find(|seat| seat.node.id == id)?;
            seat.running.take()?
        };
        if let Some(next) = self.nodes().first() {
            for topic in self.topics.all() {
                let led = topic.partitions.iter().filter(|it| it.leadership().node == id);
                led.for_each(|partition| partition.lead(next.id));
            }
        }
        self.groups.restart_clocks(&self.view());
        Some(running)
    }

    /// Where a node listens when it runs.
    pub(crate) fn addr(&self, id: i32) -> Option<SocketAddr> {
        let seats = self.seats.read();
        let seat = seats.iter().find(|seat| seat.node.id == id)?;
        Some(seat.node.addr)
    }

    /// Has a node that was stopped served again.
    pub(crate) fn rejoin(&self, id: i32, listener: TcpListener) -> std::io::Result<()> {
        let mut seats = self.seats.write();
        let seat = seats.iter_mut().find(|seat| seat.node.id == id);
        let seat = seat.ok_or_else(|| std::io::Error::other("there is no such node"))?;
        seat.running = Some(self.serve(seat.node.clone(), listener)?);
        self.groups.restart_clocks(&self.view());
        Ok(())
    }
}
