//! Engines: what speaks Kafka's protocol in a test.

use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use crate::{cluster::Cluster, environment::Environment};

/// Nodes that tests may have to themselves at the same time: each takes some 400 MB.
const OWN_NODES: u32 = 3;

/// An engine that all tests run on. Most tests share one cluster and use topics of their own.
#[derive(Debug)]
pub struct Engine {
    environment: Environment,
    /// Started when the first test asks, once; a failure is every test's failure.
    shared: OnceCell<Result<Cluster, String>>,
    own: Semaphore,
}

/// A cluster for one test alone.
#[derive(Debug)]
pub struct OwnCluster<'a> {
    /// The nodes. The first field, so that they are gone when the place is free.
    cluster: Cluster,
    _place: SemaphorePermit<'a>,
}

// === impl Engine ===

impl Engine {
    /// Apache Kafka.
    #[must_use]
    pub fn kafka(environment: Environment) -> Self {
        Self {
            environment,
            shared: OnceCell::new(),
            own: Semaphore::new(usize::try_from(OWN_NODES).unwrap_or(1)),
        }
    }

    /// The first part of the names of its tests.
    #[must_use]
    pub fn name(&self) -> &'static str {
        "kafka"
    }

    /// What it is, for the closing summary.
    #[must_use]
    pub fn description(&self) -> String {
        match &self.environment.brokers {
            Some(brokers) => format!("Apache Kafka at {brokers}"),
            None => "Apache Kafka, own nodes".to_owned(),
        }
    }

    /// Why it cannot run here tests that share a cluster; `None` if it can.
    #[must_use]
    pub fn cannot_share(&self) -> Option<&str> {
        match self.environment.brokers {
            Some(_) => None,
            None => self.cannot_stop_nodes(),
        }
    }

    /// Why it cannot run here tests that stop nodes; `None` if it can.
    #[must_use]
    pub fn cannot_stop_nodes(&self) -> Option<&str> {
        self.environment.no_nodes.as_deref()
    }

    /// The bootstrap list of the cluster that tests share.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn brokers(&self) -> &str {
        if let Some(brokers) = &self.environment.brokers {
            return brokers;
        }
        match self.shared.get_or_init(|| Cluster::up(1, "")).await {
            Ok(cluster) => cluster.brokers(),
            Err(said) => panic!("{said}"),
        }
    }

    /// A cluster for a test that stops nodes.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn own(&self, nodes: u32) -> OwnCluster<'_> {
        self.own_with(nodes, "").await
    }

    /// A cluster with broker properties of its own, `key=value`, separated by spaces.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn own_with(&self, nodes: u32, properties: &str) -> OwnCluster<'_> {
        let place = self.own.acquire_many(nodes).await.expect("it is never closed");
        match Cluster::up(nodes, properties).await {
            Ok(cluster) => OwnCluster { cluster, _place: place },
            Err(said) => panic!("{said}"),
        }
    }
}

// === impl OwnCluster ===

impl std::ops::Deref for OwnCluster<'_> {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}
