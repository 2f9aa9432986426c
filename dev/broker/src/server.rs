//! Binds the broker, runs its nodes until shutdown, and closes their connections.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream, ToSocketAddrs},
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::sleep,
};

use crate::{
    cluster::{Cluster, NodeListener},
    config::Config,
    connection::{self, ConnectionError},
    faults::Faults,
};

/// Pause after a failed accept: without file descriptors the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// An in-memory Kafka broker that listens, and serves once it is [`run`](Broker::run).
#[derive(Debug)]
pub struct Broker {
    cluster: Arc<Cluster>,
    new_nodes: mpsc::Receiver<NodeListener>,
    addr: SocketAddr,
}

// === impl Broker ===

impl Broker {
    /// Listens at `addr`, with the default [`Config`].
    ///
    /// # Errors
    /// If the address does not resolve or is in use.
    pub async fn bind(addr: impl ToSocketAddrs) -> io::Result<Broker> {
        Broker::bind_with(addr, Config::default()).await
    }

    /// Listens at `addr`. Connections are accepted by the kernel from now on, and served once the broker runs.
    ///
    /// # Errors
    /// If the address does not resolve or is in use.
    pub async fn bind_with(addr: impl ToSocketAddrs, config: Config) -> io::Result<Broker> {
        let listener = TcpListener::bind(addr).await?;
        let (cluster, new_nodes) = Cluster::new(config);
        let addr = cluster.add_node(listener)?.addr;
        Ok(Broker {
            cluster,
            new_nodes,
            addr,
        })
    }

    /// The listening address; for port 0 the port that the kernel chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// The handle that injects faults.
    pub fn faults(&self) -> Faults {
        Faults::new(Arc::clone(&self.cluster))
    }

    /// Serves until `shutdown` completes. Then it closes the listeners and all connections, without a drain.
    ///
    /// Dropping the returned future does the same.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut nodes = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(node) = self.new_nodes.recv() => {
                    nodes.spawn(listen(Arc::clone(&self.cluster), node));
                }
            }
        }
        nodes.shutdown().await;
    }
}

/// Accepts connections for one node until that node is stopped.
async fn listen(cluster: Arc<Cluster>, listener: NodeListener) {
    let NodeListener {
        node,
        listener,
        mut stop,
        stopped,
    } = listener;
    tracing::info!(node = node.id, addr = %node.addr, "listening");
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(serve(Arc::clone(&cluster), node.id, stream, peer));
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => log_panic(ended),
        }
    }
    drop(listener);
    connections.shutdown().await;
    drop(stopped);
}

async fn serve(cluster: Arc<Cluster>, node: i32, stream: TcpStream, peer: SocketAddr) {
    if let Err(error @ (ConnectionError::InvalidLength(_) | ConnectionError::Request(_))) =
        connection::serve(&cluster, node, stream).await
    {
        let error: &dyn std::error::Error = &error;
        tracing::warn!(%peer, error, "connection closed");
    }
}

/// A panic closes its connection only, because the task owns the connection. It is a bug in the broker.
fn log_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "connection task panicked");
    }
}
