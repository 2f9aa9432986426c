//! The way to partition leaders: bootstrap, topic creation, leader look-up.
//!
//! A client that failed once is thrown away and the next attempt starts from another bootstrap broker, because a
//! client keeps a connection that hangs and a leader that moved.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rskafka::{
    BackoffConfig,
    client::{
        Client, ClientBuilder,
        error::{Error as ClientError, ProtocolError},
        partition::{PartitionClient, UnknownTopicHandling},
    },
};
use tokio::sync::Semaphore;
use tracing::info;

use super::{backoff, call::with_timeout, error::Error};

/// Bound on the first contact with one bootstrap broker; the client has none of its own.
const BOOTSTRAP_LIMIT: Duration = Duration::from_secs(1);

/// Bound on a metadata call, and on connecting to a leader.
const METADATA_LIMIT: Duration = Duration::from_secs(2);

/// Bound on the creation of one topic.
const CREATE_LIMIT: Duration = Duration::from_secs(5);

/// How long the client may sleep between its own attempts within one call. It bounds the sleeps only; the calls
/// are bounded from outside.
const RETRY_SLEEP: Duration = Duration::from_millis(500);

/// The largest answer taken: many times what a fetch asks for, since one batch comes whole; and a bound, so that a foreign protocol's first bytes are not
/// read as a length to allocate.
const MAX_ANSWER_BYTES: usize = 8 << 20;

/// A Kafka cluster.
#[derive(Debug)]
pub struct Cluster {
    /// How the brokers' logs and quotas name us.
    client_id: &'static str,
    bootstrap: Vec<String>,
    /// Topics that are created where missing, at the first contact only: one that is deleted later stays deleted.
    topics: Vec<String>,
    created: AtomicBool,
    /// The client in use; `None` before the first contact and after a failure.
    client: Mutex<Option<Arc<Client>>>,
    /// One bootstrap at a time: several roles fail together, and each would open connections of its own.
    bootstrapping: Semaphore,
    /// Which bootstrap broker is asked next.
    turn: AtomicUsize,
}

// === impl Cluster ===

impl Cluster {
    /// A cluster to be reached through `bootstrap` (`host:port` each) that should have `topics`. No connection yet.
    #[must_use]
    pub fn new(client_id: &'static str, bootstrap: Vec<String>, topics: Vec<String>) -> Self {
        Self {
            client_id,
            bootstrap,
            topics,
            created: AtomicBool::new(false),
            client: Mutex::new(None),
            bootstrapping: Semaphore::new(1),
            turn: AtomicUsize::new(0),
        }
    }

    /// A new connection to the leader of a partition: one bounded attempt.
    ///
    /// # Errors
    /// [`Error::TopicMissing`] or [`Error::PartitionMissing`] where the cluster does not list it; other errors
    /// are worth another attempt.
    pub(crate) async fn leader(&self, topic: &str, partition: i32) -> Result<PartitionClient, Error> {
        let client = self.client().await?;
        let found = find_leader(&client, topic, partition).await;
        if let Err(error) = &found
            && !matches!(error, Error::TopicMissing(_) | Error::PartitionMissing { .. })
        {
            self.forget(&client);
        }
        found
    }

    /// The topics of the cluster, each with its partitions: one bounded attempt, which creates nothing.
    ///
    /// # Errors
    /// Any of them is worth another attempt.
    pub async fn topics(&self) -> Result<BTreeMap<String, BTreeSet<i32>>, Error> {
        let client = self.client().await?;
        let listed = with_timeout(METADATA_LIMIT, client.list_topics(), |e| Error::of_call(e, "")).await;
        match listed {
            Ok(topics) => Ok(topics.into_iter().map(|it| (it.name, it.partitions)).collect()),
            Err(error) => {
                self.forget(&client);
                Err(error)
            }
        }
    }

    /// The partitions of a topic: one bounded attempt.
    ///
    /// # Errors
    /// [`Error::TopicMissing`], or what [`Cluster::topics`] fails with.
    pub async fn partitions(&self, topic: &str) -> Result<BTreeSet<i32>, Error> {
        let found = self.topics().await?.remove(topic);
        found.ok_or_else(|| Error::TopicMissing(topic.to_owned()))
    }

    async fn client(&self) -> Result<Arc<Client>, Error> {
        // The semaphore is never closed; without a permit the attempt is merely not exclusive.
        let _permit = self.bootstrapping.acquire().await;
        let current = self.client.lock().clone();
        let client = match current {
            Some(client) => client,
            None => {
                let client = Arc::new(self.bootstrap().await?);
                *self.client.lock() = Some(Arc::clone(&client));
                client
            }
        };
        if !self.created.load(Ordering::Acquire) {
            match create_missing(&client, &self.topics).await {
                Ok(()) => self.created.store(true, Ordering::Release),
                Err(error) => {
                    self.forget(&client);
                    return Err(error);
                }
            }
        }
        Ok(client)
    }

    /// Contacts the next bootstrap broker.
    async fn bootstrap(&self) -> Result<Client, Error> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let broker = self.bootstrap.iter().cycle().nth(turn % self.bootstrap.len().max(1));
        let builder = ClientBuilder::new(broker.into_iter().cloned().collect())
            .client_id(self.client_id)
            .max_message_size(MAX_ANSWER_BYTES)
            .backoff_config(BackoffConfig {
                init_backoff: backoff::INITIAL,
                max_backoff: backoff::MAX,
                base: 2.0,
                deadline: Some(RETRY_SLEEP),
            });
        with_timeout(BOOTSTRAP_LIMIT, builder.build(), |e| Error::of_call(e, "")).await
    }

    fn forget(&self, failed: &Arc<Client>) {
        let mut current = self.client.lock();
        if current.as_ref().is_some_and(|it| Arc::ptr_eq(it, failed)) {
            *current = None;
        }
    }
}

async fn find_leader(client: &Client, topic: &str, partition: i32) -> Result<PartitionClient, Error> {
    // First the list of topics: it renews the client's cached metadata (on a stale entry the leader look-up
    // never ends), and it creates nothing, which asking for a topic by name does where the broker allows it.
    let listed = with_timeout(METADATA_LIMIT, client.list_topics(), |e| Error::of_call(e, topic)).await?;
    let found = listed
        .into_iter()
        .find(|it| it.name == topic)
        .ok_or_else(|| Error::TopicMissing(topic.to_owned()))?;
    if !found.partitions.contains(&partition) {
        return Err(Error::PartitionMissing {
            topic: topic.to_owned(),
            partition,
        });
    }
    let call = client.partition_client(topic, partition, UnknownTopicHandling::Error);
    with_timeout(METADATA_LIMIT, call, |e| Error::of_call(e, topic)).await
}

async fn create_missing(client: &Client, topics: &[String]) -> Result<(), Error> {
    let listed = with_timeout(METADATA_LIMIT, client.list_topics(), |e| Error::of_call(e, "")).await?;
    for topic in topics {
        if listed.iter().any(|it| it.name == *topic) {
            continue;
        }
        let controller = client.controller_client().map_err(|e| Error::of_call(e, topic))?;
        // One partition, and the broker's own default of replicas (-1, since CreateTopics v4).
        let call = controller.create_topic(topic, 1, -1, 5_000);
        let call = async {
            match call.await {
                Err(ClientError::ServerError {
                    protocol_error: ProtocolError::TopicAlreadyExists,
                    ..
                }) => Ok(()),
                other => other,
            }
        };
        with_timeout(CREATE_LIMIT, call, |e| Error::of_call(e, topic)).await?;
        info!(topic, "created");
    }
    Ok(())
}
