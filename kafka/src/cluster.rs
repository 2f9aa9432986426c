//! Finds partition leaders: bootstrap, topic creation, metadata.
//!
//! A client that failed once is dropped, and the next attempt starts from another bootstrap broker: rskafka keeps a
//! connection that hangs and a leader that moved.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, WeakShared},
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
use tracing::info;

use super::{backoff, call::with_timeout, error::Error, metadata};

/// Bound on the first contact with one bootstrap broker; rskafka has none of its own.
const BOOTSTRAP_LIMIT: Duration = Duration::from_secs(1);

/// Bound on a metadata call, and on connecting to a leader.
const METADATA_LIMIT: Duration = Duration::from_secs(2);

/// Bound on the creation of one topic.
const CREATE_LIMIT: Duration = Duration::from_secs(5);

/// Bound on rskafka's pauses between its own attempts within one call. The calls are bounded by [`with_timeout`].
const RETRY_SLEEP: Duration = Duration::from_millis(500);

/// The largest response, in bytes: many times a fetch, since one batch comes whole. The bound keeps the first bytes of a
/// foreign protocol from being allocated as a length.
const MAX_RESPONSE_BYTES: usize = 8 << 20;

/// A Kafka cluster.
#[derive(Debug)]
pub struct Cluster {
    shared: Arc<Shared>,
    /// The attempt in progress, whose result its callers share.
    attempt: Mutex<Option<WeakShared<Attempt>>>,
    /// The number of the bootstrap broker that is asked for metadata.
    metadata_broker: AtomicUsize,
}

type Attempt = BoxFuture<'static, Result<Arc<Client>, Arc<Error>>>;

#[derive(Debug)]
struct Shared {
    /// The client id in the brokers' logs and quotas.
    client_id: &'static str,
    bootstrap: Vec<String>,
    /// Topics to create where missing, at the first contact only: a topic that is deleted later stays deleted.
    topics: Vec<String>,
    created: AtomicBool,
    /// `None` before the first contact and after a failure.
    client: Mutex<Option<Arc<Client>>>,
    /// The number of the next bootstrap broker.
    next_broker: AtomicUsize,
}

// === impl Cluster ===

impl Cluster {
    /// A cluster to be reached through `bootstrap` (`host:port` each) that should have `topics`. No connection yet.
    #[must_use]
    pub fn new(client_id: &'static str, bootstrap: Vec<String>, topics: Vec<String>) -> Self {
        Self {
            shared: Arc::new(Shared {
                client_id,
                bootstrap,
                topics,
                created: AtomicBool::new(false),
                client: Mutex::new(None),
                next_broker: AtomicUsize::new(0),
            }),
            attempt: Mutex::new(None),
            metadata_broker: AtomicUsize::new(0),
        }
    }

    /// A new connection to the leader of a partition: one bounded attempt.
    ///
    /// # Errors
    /// [`Error::TopicMissing`] or [`Error::PartitionMissing`] if the cluster does not have it; other errors are worth
    /// another attempt.
    pub(crate) async fn leader(&self, topic: &str, partition: i32) -> Result<PartitionClient, Error> {
        let client = self.client().await?;
        let found = find_leader(&client, topic, partition).await;
        if let Err(error) = &found
            && !matches!(error, Error::TopicMissing(_) | Error::PartitionMissing { .. })
        {
            self.shared.forget(&client);
        }
        found
    }

    /// All topics of the cluster, each with its partitions: one bounded attempt, which creates nothing.
    ///
    /// # Errors
    /// Any error is worth another attempt.
    pub async fn topics(&self) -> Result<BTreeMap<String, BTreeSet<i32>>, Error> {
        let client = self.client().await?;
        let listed = with_timeout(METADATA_LIMIT, client.list_topics(), |e| Error::of_call(e, "")).await;
        match listed {
            Ok(topics) => Ok(topics.into_iter().map(|topic| (topic.name, topic.partitions)).collect()),
            Err(error) => {
                self.shared.forget(&client);
                Err(error)
            }
        }
    }

    /// The partitions of one topic: one bounded attempt, which asks for nothing else and creates nothing.
    ///
    /// # Errors
    /// [`Error::TopicMissing`] if the cluster does not have the topic; other errors are worth another attempt.
    pub async fn partitions(&self, topic: &str) -> Result<BTreeSet<i32>, Error> {
        // The first contact creates missing topics.
        self.client().await?;
        let number = self.metadata_broker.load(Ordering::Relaxed);
        let call = metadata::partitions(self.shared.broker(number), self.shared.client_id, topic);
        let found = with_timeout(METADATA_LIMIT, call, |error| error).await;
        if let Err(error) = &found
            && !matches!(error, Error::TopicMissing(_))
        {
            self.metadata_broker.fetch_add(1, Ordering::Relaxed);
        }
        found
    }

    /// The client in use. Callers that arrive during an attempt to bootstrap share its result, success or failure.
    async fn client(&self) -> Result<Arc<Client>, Error> {
        if let Some(client) = self.shared.ready_client() {
            return Ok(client);
        }
        let attempt = {
            let mut current = self.attempt.lock();
            let running = current.as_ref().and_then(WeakShared::upgrade);
            // A result can be seen here after its attempt: another caller has not taken it yet.
            match running.filter(|attempt| attempt.peek().is_none()) {
                Some(attempt) => attempt,
                None => {
                    let attempt = Arc::clone(&self.shared).bootstrap().boxed().shared();
                    *current = attempt.downgrade();
                    attempt
                }
            }
        };
        attempt.await.map_err(Error::Bootstrap)
    }
}

// === impl Shared ===

impl Shared {
    /// The client, once the topics are created.
    fn ready_client(&self) -> Option<Arc<Client>> {
        let client = self.client.lock().clone();
        client.filter(|_| self.created.load(Ordering::Acquire))
    }

    async fn bootstrap(self: Arc<Self>) -> Result<Arc<Client>, Arc<Error>> {
        let current = self.client.lock().clone();
        let client = match current {
            Some(client) => client,
            None => {
                let client = Arc::new(self.connect().await?);
                *self.client.lock() = Some(Arc::clone(&client));
                client
            }
        };
        if !self.created.load(Ordering::Acquire) {
            if let Err(error) = create_missing(&client, &self.topics).await {
                self.forget(&client);
                return Err(error.into());
            }
            self.created.store(true, Ordering::Release);
        }
        Ok(client)
    }

    /// Contacts the next bootstrap broker.
    async fn connect(&self) -> Result<Client, Error> {
        let broker = self.broker(self.next_broker.fetch_add(1, Ordering::Relaxed));
        let builder = ClientBuilder::new(vec![broker.to_owned()])
            .client_id(self.client_id)
            .max_message_size(MAX_RESPONSE_BYTES)
            .backoff_config(BackoffConfig {
                init_backoff: backoff::INITIAL,
                max_backoff: backoff::MAX,
                base: 2.0,
                deadline: Some(RETRY_SLEEP),
            });
        with_timeout(BOOTSTRAP_LIMIT, builder.build(), |e| Error::of_call(e, "")).await
    }

    /// The bootstrap broker of this number, modulo how many there are.
    fn broker(&self, number: usize) -> &str {
        let index = number % self.bootstrap.len().max(1);
        self.bootstrap.get(index).map_or("", String::as_str)
    }

    fn forget(&self, failed: &Arc<Client>) {
        let mut current = self.client.lock();
        if current.as_ref().is_some_and(|client| Arc::ptr_eq(client, failed)) {
            *current = None;
        }
    }
}

async fn find_leader(client: &Client, topic: &str, partition: i32) -> Result<PartitionClient, Error> {
    // The list of topics comes first. It renews rskafka's cached metadata, since a leader look-up on a stale entry never
    // ends. And it creates nothing, whereas rskafka's look-up of one topic does if the broker allows it.
    let listed = with_timeout(METADATA_LIMIT, client.list_topics(), |e| Error::of_call(e, topic)).await?;
    let found = listed
        .into_iter()
        .find(|listed| listed.name == topic)
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
        if listed.iter().any(|listed| listed.name == *topic) {
            continue;
        }
        let controller = client.controller_client().map_err(|e| Error::of_call(e, topic))?;
        // One partition, and the broker's default replication factor (-1, since CreateTopics v4).
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

#[cfg(test)]
mod tests {
    use tokio::{net::TcpListener, task::JoinSet, time::Instant};

    use super::*;

    /// A broker that accepts connections and never answers. Returns its address and counts the connections.
    async fn silent_broker() -> (String, Arc<AtomicUsize>, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let accepted = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        let count = Arc::clone(&accepted);
        tasks.spawn(async move {
            let mut open = Vec::new();
            loop {
                open.push(listener.accept().await.unwrap());
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        (addr, accepted, tasks)
    }

    #[tokio::test]
    async fn concurrent_callers_share_one_failed_bootstrap() {
        let (addr, accepted, _tasks) = silent_broker().await;
        let cluster = Arc::new(Cluster::new("test", vec![addr], Vec::new()));
        let start = Instant::now();
        let mut callers = JoinSet::new();
        for _ in 0..5 {
            let cluster = Arc::clone(&cluster);
            callers.spawn(async move { cluster.topics().await.unwrap_err() });
        }
        for error in callers.join_all().await {
            assert_eq!(error.to_string(), Error::TimedOut(BOOTSTRAP_LIMIT).to_string());
        }
        let elapsed = start.elapsed();
        assert!((BOOTSTRAP_LIMIT..2 * BOOTSTRAP_LIMIT).contains(&elapsed), "{elapsed:?}");
        assert_eq!(accepted.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn caller_after_a_failed_bootstrap_makes_a_new_attempt() {
        let (addr, accepted, _tasks) = silent_broker().await;
        let cluster = Cluster::new("test", vec![addr], Vec::new());
        for attempts in 1..=2 {
            cluster.partitions("pong").await.unwrap_err();
            assert_eq!(accepted.load(Ordering::Relaxed), attempts);
        }
    }

    #[tokio::test]
    async fn cancelled_caller_does_not_stop_the_shared_bootstrap() {
        let (addr, accepted, _tasks) = silent_broker().await;
        let cluster = Cluster::new("test", vec![addr], Vec::new());
        let cancelled = tokio::time::timeout(BOOTSTRAP_LIMIT / 4, cluster.topics());
        let (cancelled, error) = tokio::join!(cancelled, cluster.topics());
        assert!(cancelled.is_err());
        assert_eq!(
            error.unwrap_err().to_string(),
            Error::TimedOut(BOOTSTRAP_LIMIT).to_string()
        );
        assert_eq!(accepted.load(Ordering::Relaxed), 1);
    }
}
