//! Engines: what speaks Kafka's protocol in a test.

use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use crate::{
    cluster::{Cluster, Habits},
    environment::Environment,
};

/// Nodes that tests may have to themselves at the same time: each takes some 400 MB.
const OWN_NODES: u32 = 3;

/// An engine that all tests run on. Most tests share one cluster and use topics of their own.
#[derive(Debug)]
pub struct Engine {
    kind: Kind,
    /// Started when the first test asks, once; a failure is every test's failure.
    shared: OnceCell<Result<Cluster, String>>,
    own: Semaphore,
}

/// What there is to test on.
#[derive(Debug)]
enum Kind {
    /// The in-memory broker, which needs nothing.
    BuiltIn,
    /// Apache Kafka, as far as the environment has it.
    Kafka(Environment),
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
    /// The in-memory broker.
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
            own: Semaphore::new(usize::try_from(OWN_NODES).unwrap_or(1)),
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

    /// What it is, for the closing summary.
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

    /// Why it cannot run here tests that share a cluster; `None` if it can.
    #[must_use]
    pub fn cannot_share(&self) -> Option<&str> {
        match &self.kind {
            Kind::Kafka(Environment { brokers: None, .. }) => self.cannot_stop_nodes(),
            _ => None,
        }
    }

    /// Why it cannot run here tests that stop nodes; `None` if it can.
    #[must_use]
    pub fn cannot_stop_nodes(&self) -> Option<&str> {
        match &self.kind {
            Kind::BuiltIn => None,
            Kind::Kafka(environment) => environment.no_nodes.as_deref(),
        }
    }

    /// Whether each node is a process of its own: [`Cluster::pause_node`] works, and what only one node has ends with it.
    #[must_use]
    pub fn has_separate_nodes(&self) -> bool {
        matches!(self.kind, Kind::Kafka(_))
    }

    /// The bootstrap list of the cluster that tests share.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn brokers(&self) -> &str {
        if let Kind::Kafka(Environment {
            brokers: Some(brokers), ..
        }) = &self.kind
        {
            return brokers;
        }
        match self.shared.get_or_init(|| self.up(1, Habits::STEADY)).await {
            Ok(cluster) => cluster.brokers(),
            Err(said) => panic!("{said}"),
        }
    }

    async fn up(&self, nodes: u32, habits: Habits) -> Result<Cluster, String> {
        match self.kind {
            Kind::BuiltIn => Ok(Cluster::built_in(nodes, habits).await),
            Kind::Kafka(_) => Cluster::kafka(nodes, habits).await,
        }
    }

    /// A cluster for a test that stops nodes.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn own(&self, nodes: u32) -> OwnCluster<'_> {
        self.own_with(nodes, Habits::default()).await
    }

    /// A cluster for a test that pauses nodes and kills none: one would be let in again only after a minute.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn own_steady(&self, nodes: u32) -> OwnCluster<'_> {
        self.own_with(nodes, Habits::STEADY).await
    }

    /// A cluster with habits of its own.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn own_with(&self, nodes: u32, habits: Habits) -> OwnCluster<'_> {
        let place = self.own.acquire_many(nodes).await.expect("it is never closed");
        match self.up(nodes, habits).await {
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
