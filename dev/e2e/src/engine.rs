//! The two engines that speak Kafka's protocol in tests: the built-in broker and Apache Kafka.
//!
//! - Most tests share one cluster and use topics of their own.
//! - A test that stops nodes reserves a cluster. Clusters of Apache Kafka are reused, because a start costs seconds of
//!   CPU: such a test leaves all nodes running, and a cluster is dropped after a test that failed.

use std::{collections::BTreeMap, ops::Deref, sync::Arc, thread};

use parking_lot::Mutex;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use crate::{
    cluster::{Cluster, NodeSettings},
    environment::Environment,
};

/// One engine and its clusters.
#[derive(Debug)]
pub struct Engine {
    kind: Kind,
    /// Started by the first test that needs it. A failure fails every test that needs it.
    shared: OnceCell<Result<Cluster, String>>,
    reusable: Mutex<BTreeMap<(u32, NodeSettings), Arc<Slot>>>,
}

#[derive(Debug)]
enum Kind {
    BuiltIn,
    Kafka(Environment),
}

/// The place of one reusable cluster.
#[derive(Debug)]
struct Slot {
    turn: Arc<Semaphore>,
    idle: Mutex<Option<Cluster>>,
}

/// A cluster for one test at a time.
#[derive(Debug)]
pub struct ReservedCluster {
    /// Present until the drop.
    cluster: Option<Cluster>,
    slot: Option<(Arc<Slot>, OwnedSemaphorePermit)>,
}

// === impl Engine ===

impl Engine {
    /// The built-in broker.
    #[must_use]
    pub fn built_in() -> Self {
        Self::new(Kind::BuiltIn)
    }

    /// Apache Kafka.
    #[must_use]
    pub fn kafka(environment: Environment) -> Self {
        Self::new(Kind::Kafka(environment))
    }

    fn new(kind: Kind) -> Self {
        Self {
            kind,
            shared: OnceCell::new(),
            reusable: Mutex::default(),
        }
    }

    /// The first part of the names of its tests.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::BuiltIn => "built_in",
            Kind::Kafka(_) => "kafka",
        }
    }

    /// The engine in the closing summary.
    #[must_use]
    pub fn description(&self) -> String {
        match &self.kind {
            Kind::BuiltIn => "the built-in broker".to_owned(),
            Kind::Kafka(Environment {
                brokers: Some(brokers), ..
            }) => format!("Apache Kafka at {brokers}"),
            Kind::Kafka(_) => "Apache Kafka, own nodes".to_owned(),
        }
    }

    /// Why tests on the shared cluster cannot run here; `None` if they can.
    #[must_use]
    pub fn cannot_share(&self) -> Option<&str> {
        match &self.kind {
            Kind::Kafka(Environment { brokers: None, .. }) => self.cannot_start_nodes(),
            _ => None,
        }
    }

    /// Why tests that stop nodes cannot run here; `None` if they can.
    #[must_use]
    pub fn cannot_start_nodes(&self) -> Option<&str> {
        match &self.kind {
            Kind::BuiltIn => None,
            Kind::Kafka(environment) => environment.no_nodes.as_deref(),
        }
    }

    /// The bootstrap list of the shared cluster.
    ///
    /// # Panics
    /// When the cluster does not start.
    pub async fn brokers(&self) -> &str {
        if let Kind::Kafka(Environment {
            brokers: Some(brokers), ..
        }) = &self.kind
        {
            return brokers;
        }
        let started = self
            .shared
            .get_or_init(|| self.start(1, NodeSettings::LONG_SESSION))
            .await;
        match started {
            Ok(cluster) => cluster.brokers(),
            Err(error) => panic!("{error}"),
        }
    }

    async fn start(&self, nodes: u32, settings: NodeSettings) -> Result<Cluster, String> {
        match self.kind {
            Kind::BuiltIn => Ok(Cluster::built_in(nodes, settings).await),
            Kind::Kafka(_) => Cluster::kafka(nodes, settings).await,
        }
    }

    /// A new cluster for a test that stops nodes.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn own(&self, nodes: u32, settings: NodeSettings) -> Cluster {
        match self.start(nodes, settings).await {
            Ok(cluster) => cluster,
            Err(error) => panic!("{error}"),
        }
    }

    /// The reusable cluster of this size and these settings, for one test at a time. Built-in clusters are always new.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn reserve(&self, nodes: u32, settings: NodeSettings) -> ReservedCluster {
        if matches!(self.kind, Kind::BuiltIn) {
            return ReservedCluster {
                cluster: Some(self.own(nodes, settings).await),
                slot: None,
            };
        }
        let slot = Arc::clone(self.reusable.lock().entry((nodes, settings)).or_default());
        let turn = Arc::clone(&slot.turn)
            .acquire_owned()
            .await
            .expect("it is never closed");
        let idle = slot.idle.lock().take();
        let cluster = match idle {
            Some(cluster) => cluster,
            None => self.own(nodes, settings).await,
        };
        ReservedCluster {
            cluster: Some(cluster),
            slot: Some((slot, turn)),
        }
    }
}

// === impl Slot ===

impl Default for Slot {
    fn default() -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            idle: Mutex::default(),
        }
    }
}

// === impl ReservedCluster ===

impl Deref for ReservedCluster {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.cluster.as_ref().expect("present until the drop")
    }
}

impl Drop for ReservedCluster {
    fn drop(&mut self) {
        // After a failure the state of the nodes is unknown. The permit in `slot` is released last.
        if let Some((slot, _turn)) = &self.slot
            && !thread::panicking()
        {
            *slot.idle.lock() = self.cluster.take();
        }
        drop(self.cluster.take());
    }
}
