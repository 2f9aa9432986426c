//! The fixture of a test: two topics of its own, and processes that use them.

use uuid::Uuid;

use crate::{
    cluster::Cluster,
    engine::Engine,
    process::{Process, Setup},
    topic::Topic,
};

/// The topics and the group of one test on one cluster.
#[derive(Debug, Clone)]
pub struct Fixture {
    brokers: String,
    ping: String,
    pong: String,
    group: String,
}

// === impl Fixture ===

impl Fixture {
    /// On the shared cluster of an engine.
    pub async fn shared(engine: &Engine) -> Self {
        Self::at(engine.brokers().await)
    }

    /// On a cluster of the test.
    #[must_use]
    pub fn on(cluster: &Cluster) -> Self {
        Self::at(cluster.brokers())
    }

    /// At any bootstrap list.
    #[must_use]
    pub fn at(brokers: &str) -> Self {
        let unique = Uuid::new_v4().simple().to_string();
        Self {
            brokers: brokers.to_owned(),
            ping: format!("ping-{unique}"),
            pong: format!("pong-{unique}"),
            group: format!("group-{unique}"),
        }
    }

    /// The bootstrap list.
    #[must_use]
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// The name of the request topic.
    #[must_use]
    pub fn ping_name(&self) -> &str {
        &self.ping
    }

    /// The name of the reply topic.
    #[must_use]
    pub fn pong_name(&self) -> &str {
        &self.pong
    }

    /// The name of the group.
    #[must_use]
    pub fn group_name(&self) -> &str {
        &self.group
    }

    /// A gateway for the topics.
    #[must_use]
    pub fn gateway(&self) -> Setup {
        self.configure(Setup::gateway())
    }

    /// A worker for the topics.
    #[must_use]
    pub fn worker(&self) -> Setup {
        self.configure(Setup::worker())
    }

    /// A worker that is a member of the group.
    #[must_use]
    pub fn member(&self) -> Setup {
        self.worker().set("WORKER_GROUP", &self.group)
    }

    /// Another process with these topics.
    #[must_use]
    pub fn configure(&self, setup: Setup) -> Setup {
        setup
            .set("KAFKA_BROKERS", &self.brokers)
            .set("PING_TOPIC", &self.ping)
            .set("PONG_TOPIC", &self.pong)
    }

    /// A gateway and a worker with default settings, both ready.
    pub async fn pair(&self) -> (Process, Process) {
        tokio::join!(self.gateway().ready(), self.worker().ready())
    }

    /// Connects to the request topic.
    pub async fn ping(&self) -> Topic {
        Topic::open(&self.brokers, &self.ping).await
    }

    /// Connects to the reply topic.
    pub async fn pong(&self) -> Topic {
        Topic::open(&self.brokers, &self.pong).await
    }
}
