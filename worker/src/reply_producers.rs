//! Sends replies: a pool of producers, one for each topic partition that requests name.
//!
//! - Our reply topics are those that the settings name. Partition 0 of the first one is the default. Its producer is open
//!   from the start and is never evicted.
//! - The others open at the first reply. Clients name the partitions, so their number is bounded; the least recently used
//!   producer is evicted ([`pool`]).
//! - A partition that the cluster metadata does not list is rejected: no topic is created by its name ([`metadata`]).
//! - One slow partition must not block the rest: in foreign topics, which a pattern allows, a full buffer rejects the reply at once.
//! - All producers together use about [`MAX_PRODUCER_CONNECTIONS`] connections, and each has at least one.

mod metadata;
mod pool;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use kafka::{
    Backoff, Cluster, Error, Full, MAX_PRODUCER_CONNECTIONS, Partition, ProducerMetrics, ProducerSettings, Record,
    SendError,
};
use parking_lot::Mutex;
use shared::{error_chain::ErrorChain, readiness::HealthCheck, tasks::Tasks};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tracing::{info, warn};

use self::{metadata::MetadataCache, pool::ProducerPool};
use crate::delivery::{DeliveryToken, ReplyDelivery};

/// The buffer of one producer, in bytes of records.
const BUFFER_BYTES: usize = 1 << 20;

/// How long metadata requests for a partition of our reply topic are retried.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);

/// The same for a foreign topic. No attempt begins after this time; the last one may end later.
const FOREIGN_METADATA_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a reply in our reply topic is sent again: the largest reply timeout of a gateway.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(3600);

/// The same for a foreign topic. The topic may be gone for good, and the offset of the request stays uncommitted meanwhile.
const FOREIGN_DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// How long an evicted producer may take to send its buffer.
const EVICTION_TIMEOUT: Duration = Duration::from_secs(10);

type Producer = kafka::Producer<ReplyDelivery>;

/// Why a reply was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rejected {
    /// The cluster does not list the partition.
    #[error("there is no such topic or partition")]
    UnknownPartition,
    /// The cluster metadata is not available.
    #[error("the metadata of the cluster is not available")]
    NoMetadata,
    /// The producer's buffer is full.
    #[error("its buffer is full")]
    BufferFull,
}

/// The producers of all replies and heartbeats. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ReplyProducers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    cluster: Arc<Cluster>,
    tasks: Tasks,
    /// Our reply topics, the default one first; every other one is foreign.
    topics: Vec<String>,
    default: Producer,
    /// The default producer has sent replies, not only heartbeats.
    default_has_replies: AtomicBool,
    /// The worker ends: a closed producer is not opened again.
    is_closed: AtomicBool,
    callback: ReplyDelivery,
    metrics: ProducerMetrics,
    pool: Mutex<ProducerPool>,
    metadata: Mutex<MetadataCache>,
    /// One metadata request at a time.
    lookup: Semaphore,
}

// === impl ReplyProducers ===

impl ReplyProducers {
    /// Opens the default producer; `health_check` is ready while it is connected.
    pub(crate) fn new(
        cluster: &Arc<Cluster>,
        tasks: &Tasks,
        topics: Vec<String>,
        callback: ReplyDelivery,
        health_check: HealthCheck,
        metrics: ProducerMetrics,
    ) -> Self {
        let settings = producer_settings(DELIVERY_TIMEOUT);
        let default = Producer::new(settings, callback.clone(), health_check, metrics.clone());
        if let Some(topic) = topics.first() {
            default.add_partition(tasks, Partition::new(cluster, topic, 0));
        }
        Self {
            shared: Arc::new(Shared {
                cluster: Arc::clone(cluster),
                tasks: tasks.clone(),
                pool: Mutex::new(ProducerPool::new(&topics)),
                topics,
                default,
                default_has_replies: AtomicBool::new(false),
                is_closed: AtomicBool::new(false),
                callback,
                metrics,
                metadata: Mutex::default(),
                lookup: Semaphore::new(1),
            }),
        }
    }

    /// Queues a reply for `address`, topic and partition; `None` is the default. Returns it if its producer is not open, closed,
    /// or full: then [`ReplyProducers::send`] waits, or rejects it.
    pub(crate) fn try_send(
        &self,
        address: Option<(&str, i32)>,
        record: Record,
        token: DeliveryToken,
    ) -> Option<(Record, DeliveryToken)> {
        let (topic, partition) = address.unwrap_or((self.shared.default_topic(), 0));
        let Some(producer) = self.shared.open_producer(topic, partition) else {
            return Some((record, token));
        };
        match producer.try_send(record, token, None) {
            Ok(()) => None,
            Err(Full(unsent)) => Some(unsent),
        }
    }

    /// Queues a reply for `address`, topic and partition; `None` is the default. Completes `token` if it is rejected.
    ///
    /// In our reply topic it waits for buffer space. It gives up while the partition is unreachable, if other partitions
    /// with replies are reachable or the caller has given up (`is_wanted`).
    pub(crate) async fn send(
        &self,
        address: Option<(&str, i32)>,
        record: Record,
        token: DeliveryToken,
        is_wanted: impl Fn() -> bool,
    ) -> Result<(), Rejected> {
        let sent = self.shared.send(address, record, token, is_wanted).await;
        sent.map_err(|(rejected, token)| {
            token.reject();
            rejected
        })
    }

    /// Queues a heartbeat for a partition of a reply topic of ours. It is dropped where the producer would have to evict
    /// another one, and where the buffer is full: the replies in it show that the worker is alive.
    pub(crate) async fn send_heartbeat(
        &self,
        topic: &str,
        partition: i32,
        record: Record,
        permit: OwnedSemaphorePermit,
    ) {
        let shared = &self.shared;
        let producer = if shared.is_default(topic, partition) {
            shared.default.clone()
        } else if shared.pool.lock().can_open_without_eviction(topic, partition) {
            match shared.producer(topic, partition).await {
                Ok(producer) => producer,
                Err(_) => return,
            }
        } else {
            return;
        };
        let _ = producer.try_send(record, DeliveryToken::Heartbeat(permit), None);
    }

    /// Closes the producers of partitions that a reply topic of ours no longer has. Further replies to them are rejected.
    pub(crate) fn remove_partitions(&self, topic: &str, partitions: &BTreeSet<i32>) {
        let shared = &self.shared;
        shared.metadata.lock().remove(topic, partitions);
        for partition in partitions {
            let removed = shared.pool.lock().remove(topic, *partition);
            if let Some(producer) = removed {
                shared.close_evicted(producer);
            }
        }
    }

    /// Closes all producers, and waits up to `limit` until every record has its outcome. Returns whether all have.
    pub(crate) async fn close(&self, limit: Duration) -> bool {
        self.shared.is_closed.store(true, Ordering::Relaxed);
        let producers = self.shared.pool.lock().producers();
        let producers = producers.iter().chain([&self.shared.default]);
        let closed = join_all(producers.map(|producer| producer.close(limit))).await;
        closed.into_iter().all(|all_delivered| all_delivered)
    }
}

// === impl Shared ===

impl Shared {
    async fn send(
        &self,
        address: Option<(&str, i32)>,
        mut record: Record,
        mut token: DeliveryToken,
        is_wanted: impl Fn() -> bool,
    ) -> Result<(), (Rejected, DeliveryToken)> {
        let (topic, partition) = address.unwrap_or((self.default_topic(), 0));
        let is_foreign = self.is_foreign(topic);
        loop {
            let producer = match self.producer_for_reply(topic, partition).await {
                Ok(producer) => producer,
                Err(rejected) => return Err((rejected, token)),
            };
            if is_foreign {
                let queued = producer.try_send(record, token, None);
                return queued.map_err(|Full((_, token))| (Rejected::BufferFull, token));
            }
            let keep_waiting = || is_wanted() && !self.is_any_reachable();
            match producer.send(record, token, keep_waiting).await {
                Ok(()) => return Ok(()),
                Err(SendError::Unreachable(token)) => return Err((Rejected::BufferFull, token)),
                // The request is not acknowledged: another worker gets it.
                Err(SendError::Closed(..)) if self.is_closed.load(Ordering::Relaxed) => return Ok(()),
                // Evicted since the look-up: opens it again.
                Err(SendError::Closed(unsent, returned)) => (record, token) = (unsent, returned),
            }
        }
    }

    fn default_topic(&self) -> &str {
        self.topics.first().map_or("", String::as_str)
    }

    fn is_default(&self, topic: &str, partition: i32) -> bool {
        partition == 0 && topic == self.default_topic()
    }

    fn is_foreign(&self, topic: &str) -> bool {
        self.topics.iter().all(|own| own != topic)
    }

    /// The producer for a reply; opens it if the cluster lists the partition.
    async fn producer_for_reply(&self, topic: &str, partition: i32) -> Result<Producer, Rejected> {
        if let Some(producer) = self.open_producer(topic, partition) {
            return Ok(producer);
        }
        let producer = self.producer(topic, partition).await?;
        self.pool.lock().mark_replies(topic, partition);
        Ok(producer)
    }

    /// The producer for a reply, if it is open.
    fn open_producer(&self, topic: &str, partition: i32) -> Option<Producer> {
        if self.is_default(topic, partition) {
            self.default_has_replies.store(true, Ordering::Relaxed);
            return Some(self.default.clone());
        }
        let mut pool = self.pool.lock();
        let producer = pool.get(topic, partition)?;
        pool.mark_replies(topic, partition);
        Some(producer)
    }

    /// Whether a producer that has sent replies is reachable.
    fn is_any_reachable(&self) -> bool {
        let default = self.default_has_replies.load(Ordering::Relaxed) && self.default.is_reachable();
        default || self.pool.lock().is_any_reachable()
    }

    /// The producer of a partition other than the default; opens it if the cluster lists the partition.
    async fn producer(&self, topic: &str, partition: i32) -> Result<Producer, Rejected> {
        if let Some(producer) = self.pool.lock().get(topic, partition) {
            return Ok(producer);
        }
        // The semaphore is never closed.
        let _permit = self.lookup.acquire().await;
        if let Some(producer) = self.pool.lock().get(topic, partition) {
            return Ok(producer);
        }
        self.check_exists(topic, partition).await?;
        Ok(self.open(topic, partition))
    }

    /// Looks a partition up in the cached metadata, and requests the metadata if the cache does not know.
    async fn check_exists(&self, topic: &str, partition: i32) -> Result<(), Rejected> {
        let is_foreign = self.is_foreign(topic);
        if let Some(known) = self.metadata.lock().lookup(topic, partition, is_foreign) {
            return known;
        }
        let limit = if is_foreign {
            FOREIGN_METADATA_TIMEOUT
        } else {
            METADATA_TIMEOUT
        };
        let begin = Instant::now();
        let mut backoff = Backoff::default();
        let response = loop {
            match self.cluster.partitions(topic).await {
                // A user that may not describe it may not write to it either.
                Err(Error::TopicMissing(_) | Error::TopicDenied { .. }) => break Ok(BTreeSet::new()),
                Err(_) if begin.elapsed() < limit => backoff.pause().await,
                response => break response,
            }
        };
        let mut metadata = self.metadata.lock();
        match response {
            Ok(partitions) => {
                metadata.update(topic, partitions);
                metadata.check(topic, partition)
            }
            Err(error) => {
                metadata.fail(is_foreign);
                drop(metadata);
                warn!(error = %ErrorChain(&error), topic, partition, "cannot look up the partition of a reply");
                Err(Rejected::NoMetadata)
            }
        }
    }

    /// Opens a producer, and evicts the least recently used one if the pool is full.
    fn open(&self, topic: &str, partition: i32) -> Producer {
        let is_foreign = self.is_foreign(topic);
        let settings = producer_settings(if is_foreign {
            FOREIGN_DELIVERY_TIMEOUT
        } else {
            DELIVERY_TIMEOUT
        });
        let producer = Producer::new(settings, self.callback.clone(), None, self.metrics.clone());
        let mut pool = self.pool.lock();
        let evicted = pool.insert(topic, partition, producer.clone());
        let producers = pool.producers();
        drop(pool);
        let count = producers.len() + 1;
        for producer in producers.iter().chain([&self.default]) {
            producer.set_max_connections((MAX_PRODUCER_CONNECTIONS / count).max(1));
        }
        producer.add_partition(&self.tasks, Partition::new(&self.cluster, topic, partition));
        info!(topic, partition, producers = count, "opened a producer for replies");
        if let Some(evicted) = evicted {
            self.close_evicted(evicted);
        }
        producer
    }

    fn close_evicted(&self, evicted: Producer) {
        self.tasks.spawn(async move {
            if !evicted.close(EVICTION_TIMEOUT).await {
                evicted.abandon();
            }
        });
    }
}

fn producer_settings(delivery_timeout: Duration) -> ProducerSettings {
    ProducerSettings {
        connections: MAX_PRODUCER_CONNECTIONS,
        max_bytes: BUFFER_BYTES,
        delivery_timeout,
        // No linger: the replies to one fetch are a batch already.
        in_flight: None,
    }
}

#[cfg(test)]
mod tests;
