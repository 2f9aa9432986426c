//! The broker as a whole: it binds, runs until it is told to stop, and takes its connections with it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream, ToSocketAddrs},
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::sleep,
};

use crate::{
    cluster::{Cluster, Joining},
    config::Config,
    connection::{self, Ended},
};

/// After a failed accept, so that a process out of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// An in-memory Kafka broker that listens, but does not answer before [`run`](Broker::run).
#[derive(Debug)]
pub struct Broker {
    cluster: Arc<Cluster>,
    joined: mpsc::Receiver<Joining>,
    addr: SocketAddr,
}

impl Broker {
    /// Listens at `addr`, with the default [`Config`].
    ///
    /// # Errors
    /// If the address cannot be resolved or is taken.
    pub async fn bind(addr: impl ToSocketAddrs) -> io::Result<Broker> {
        Broker::bind_with(addr, Config::default()).await
    }

    /// Listens at `addr`. Clients that connect from now on are served once it runs.
    ///
    /// # Errors
    /// If the address cannot be resolved or is taken.
    pub async fn bind_with(addr: impl ToSocketAddrs, config: Config) -> io::Result<Broker> {
        let listener = TcpListener::bind(addr).await?;
        let (cluster, joined) = Cluster::new(config);
        let addr = cluster.join(listener)?.addr;
        Ok(Broker { cluster, joined, addr })
    }

    /// Where it listens: the port that was chosen if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// The switches that make it fail.
    #[cfg(feature = "faults")]
    pub fn faults(&self) -> crate::Faults {
        crate::Faults::new(Arc::clone(&self.cluster))
    }

    /// Serves until `shutdown` completes. Then it stops listening and closes all connections, whatever they wait for.
    ///
    /// Dropping the returned future does the same.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut nodes = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(joining) = self.joined.recv() => {
                    nodes.spawn(listen(Arc::clone(&self.cluster), joining));
                }
            }
        }
        nodes.shutdown().await;
    }
}

/// Accepts connections for one node, until that node is to stop.
async fn listen(cluster: Arc<Cluster>, joining: Joining) {
    let Joining {
        node,
        listener,
        mut stop,
        stopped,
    } = joining;
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
            Some(ended) = connections.join_next() => report_panic(ended),
        }
    }
    drop(listener);
    connections.shutdown().await;
    drop(stopped);
}

async fn serve(cluster: Arc<Cluster>, node: i32, stream: TcpStream, peer: SocketAddr) {
    match connection::serve(&cluster, node, stream).await {
        Ok(()) | Err(Ended::Io(_) | Ended::Cut | Ended::HungUp | Ended::OnPurpose) => {}
        Err(ended @ (Ended::Length(_) | Ended::Refused(_))) => {
            let error: &dyn std::error::Error = &ended;
            tracing::warn!(%peer, error, "connection closed");
        }
    }
}

/// A panic has closed its connection, for the task owned it. It is a bug all the same.
fn report_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection ended with a panic");
    }
}
