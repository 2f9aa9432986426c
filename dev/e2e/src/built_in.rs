//! The built-in broker on a thread, whose fault injection stops and starts its nodes.

use std::{future::Future, thread, time::Duration};

use broker::{Broker, Config, Faults};
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

use crate::cluster::NodeSettings;

/// The nodes of one broker. The drop ends them.
#[derive(Debug)]
pub(crate) struct BuiltIn {
    faults: Faults,
    /// The runtime of the broker, on which listeners must be created.
    runtime: Handle,
    /// The drop ends the broker.
    _end: oneshot::Sender<()>,
}

// === impl BuiltIn ===

impl BuiltIn {
    /// Starts `nodes` nodes. Returns the bootstrap list as well.
    pub(crate) async fn up(nodes: u32, settings: NodeSettings) -> (Self, String) {
        let (end, ended) = oneshot::channel::<()>();
        let (started, start) = oneshot::channel();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let broker = Broker::bind_with("127.0.0.1:0", config(settings))
                    .await
                    .expect("any port");
                // The test may have ended.
                let _ = started.send((broker.local_addr(), broker.faults(), Handle::current()));
                // An error means that the sender was dropped, which is the signal.
                broker.run(async { _ = ended.await }).await;
            });
        });
        let (first, faults, runtime) = start.await.expect("the broker starts");
        let broker = Self {
            faults,
            runtime,
            _end: end,
        };
        broker.faults.close_idle_after(settings.max_idle);
        let mut brokers = vec![first.to_string()];
        for _ in 1..nodes {
            let faults = broker.faults.clone();
            let (_, addr) = broker
                .on_runtime(async move { faults.add_node().await })
                .await
                .expect("any port");
            brokers.push(addr.to_string());
        }
        (broker, brokers.join(","))
    }

    /// The fault injection.
    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Closes the connections and the port; the log stays.
    pub(crate) async fn stop(&self, node: u32) {
        self.faults.stop_node(id(node)).await;
    }

    /// Starts a stopped node at its port.
    pub(crate) async fn start(&self, node: u32) {
        let faults = self.faults.clone();
        let started = self.on_runtime(async move { faults.start_node(id(node)).await }).await;
        started.expect("the port is free");
    }

    /// Stops the responses of all nodes.
    pub(crate) fn pause(&self) {
        self.faults.pause();
    }

    /// Continues the responses.
    pub(crate) fn resume(&self) {
        self.faults.resume();
    }

    /// Moves a leader; the old one answers with the error for it.
    pub(crate) fn lead(&self, topic: &str, partition: i32, node: u32) {
        let moved = self.faults.move_leader(topic, partition, id(node));
        moved.expect("the node runs and the partition exists");
    }

    async fn on_runtime<T: Send + 'static>(&self, act: impl Future<Output = T> + Send + 'static) -> T {
        self.runtime.spawn(act).await.expect("it does not panic")
    }
}

/// As in `scripts/kafka.d/node.properties`.
fn config(settings: NodeSettings) -> Config {
    let mut config = Config::default();
    config.advertised = settings.advertised_port.map(|port| ("127.0.0.1".to_owned(), port));
    if let Some(bytes) = settings.max_batch_bytes {
        config.max_batch_bytes = usize::try_from(bytes).expect("it fits");
    }
    config.session_timeout = Duration::from_secs(4);
    config.heartbeat_interval = Duration::from_millis(500);
    config
}

fn id(node: u32) -> i32 {
    i32::try_from(node).expect("a small number")
}
