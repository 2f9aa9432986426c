//! The built-in engine: the in-memory broker, on a thread of its own, with its faults as the ways to end a node.

use std::{future::Future, thread, time::Duration};

use broker::{Broker, Config, Faults};
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// Nodes of one broker. They go with it.
#[derive(Debug)]
pub(crate) struct BuiltIn {
    faults: Faults,
    /// Where the broker runs: what makes listeners has to run there too.
    runtime: Handle,
    /// Dropping it ends the broker.
    _end: oneshot::Sender<()>,
}

// === impl BuiltIn ===

impl BuiltIn {
    /// Starts `nodes` nodes that close connections which are idle for `max_idle`; gives the bootstrap list too.
    pub(crate) async fn up(nodes: u32, max_idle: Option<Duration>) -> (Self, String) {
        let (end, ended) = oneshot::channel::<()>();
        let (started, start) = oneshot::channel();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let broker = Broker::bind_with("127.0.0.1:0", config()).await.expect("any port");
                // Nobody waits for it any more when the test is over.
                let _ = started.send((broker.local_addr(), broker.faults(), Handle::current()));
                // Dropped is as good as sent.
                broker.run(async { _ = ended.await }).await;
            });
        });
        let (first, faults, runtime) = start.await.expect("the broker starts");
        let broker = Self {
            faults,
            runtime,
            _end: end,
        };
        broker.faults.close_idle_after(max_idle);
        let mut brokers = vec![first.to_string()];
        for _ in 1..nodes {
            let faults = broker.faults.clone();
            let (_, addr) = broker
                .there(async move { faults.add_node().await })
                .await
                .expect("any port");
            brokers.push(addr.to_string());
        }
        (broker, brokers.join(","))
    }

    /// All its faults.
    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Connections break, the port is closed, the log stays.
    pub(crate) async fn stop(&self, node: u32) {
        self.faults.stop_node(id(node)).await;
    }

    /// At the same port.
    pub(crate) async fn start(&self, node: u32) {
        let faults = self.faults.clone();
        let started = self.there(async move { faults.start_node(id(node)).await }).await;
        started.expect("the port is free");
    }

    /// All nodes stop answering.
    pub(crate) fn pause(&self) {
        self.faults.pause();
    }

    /// They go on.
    pub(crate) fn resume(&self) {
        self.faults.resume();
    }

    /// The old leader lives on and says that it is none.
    pub(crate) fn lead(&self, topic: &str, partition: i32, node: u32) {
        let moved = self.faults.move_leader(topic, partition, id(node));
        moved.expect("the node runs and the partition exists");
    }

    async fn there<T: Send + 'static>(&self, act: impl Future<Output = T> + Send + 'static) -> T {
        self.runtime.spawn(act).await.expect("it does not panic")
    }
}

/// As in `scripts/kafka.d/node.properties`.
fn config() -> Config {
    let mut config = Config::default();
    config.session_timeout = Duration::from_secs(4);
    config.heartbeat_interval = Duration::from_millis(500);
    config
}

fn id(node: u32) -> i32 {
    i32::try_from(node).expect("a small number")
}
