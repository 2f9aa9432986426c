//! Where replies go: an producer for each partition that requests name, opened when the first one does.
//!
//! - The contract's place, partition 0 of the reply topic, is open from the start.
//! - Whoever writes requests names places, so their number is bounded, and the one unused longest is closed for a new one.
//! - A place that the cluster does not list is refused: nothing is ever created by its name.
//! - Connections: each place has one, and all have as many, [`MAX_PRODUCER_CONNECTIONS`] together.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use kafka::{
    Backoff, Cluster, Full, MAX_PRODUCER_CONNECTIONS, Partition, Producer, ProducerMetrics, ProducerSettings, Record,
    SendError,
};
use parking_lot::Mutex;
use shared::{error_chain::ErrorChain, readiness::HealthCheck, tasks::Tasks};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tracing::{info, warn};

use crate::delivery::{ReplyDelivery, Written};

/// Replies that may wait for Kafka at one place, in bytes.
const BUFFER_BYTES: usize = 1 << 20;

/// Producers open at the same time, the contract's included.
const MAX_PRODUCERS: usize = 64;

/// The cluster is asked about unknown places this often at most: any client can name one in every request.
const METADATA_MAX_AGE: Duration = Duration::from_secs(1);

/// For how long it is asked again about one of our own topic while it does not answer.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);

/// The same of topics named by others: each bootstrap broker that is gone costs an attempt.
const FOREIGN_METADATA_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a reply is sent again in our own topic: no gateway of ours lets its callers wait for longer.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(3600);

/// As long in a topic that somebody else named: it may be gone for good, and its requests are not done meanwhile.
const FOREIGN_DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a place that is closed may take to write what it has.
const LAST_REPLIES: Duration = Duration::from_secs(10);

/// Why a reply was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// The cluster has no such topic or partition.
    #[error("there is no such topic or partition")]
    Missing,
    /// The cluster does not say whether it has it.
    #[error("the cluster cannot be asked whether there is such a topic and partition")]
    Unknown,
    /// It takes fewer replies than there are.
    #[error("its replies pile up")]
    Full,
}

/// The places. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ReplyProducers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    cluster: Arc<Cluster>,
    tasks: Tasks,
    topic: String,
    /// Partition 0 of the reply topic.
    default: Producer<ReplyDelivery>,
    home_had_replies: AtomicBool,
    receipts: ReplyDelivery,
    metrics: ProducerMetrics,
    places: Mutex<Producers>,
    /// One at a time asks the cluster.
    opening: Semaphore,
}

#[derive(Debug, Default)]
struct Producers {
    /// By topic and partition; without the default.
    open: BTreeMap<String, BTreeMap<i32, ReplyProducer>>,
    /// Counts uses.
    clock: u64,
    /// What the cluster had when it answered last.
    listed: BTreeMap<String, BTreeSet<i32>>,
    asked: Option<Asked>,
}

/// What was heard when the cluster was asked last.
#[derive(Debug, Clone, Copy)]
struct Asked {
    at: Instant,
    /// What that means for whatever is not listed.
    absence: Refused,
    /// Again and again.
    patiently: bool,
}

#[derive(Debug)]
struct ReplyProducer {
    producer: Producer<ReplyDelivery>,
    /// The clock when it was used last.
    used: u64,
    /// It is there for more than announcements.
    had_replies: bool,
}

// === impl ReplyProducers ===

impl ReplyProducers {
    /// With partition 0 of `topic` open; `health_check` is met while it is connected.
    pub(crate) fn new(
        cluster: &Arc<Cluster>,
        tasks: &Tasks,
        topic: &str,
        receipts: ReplyDelivery,
        health_check: HealthCheck,
        metrics: ProducerMetrics,
    ) -> Self {
        let default = Producer::new(
            settings(DELIVERY_TIMEOUT),
            receipts.clone(),
            health_check,
            metrics.clone(),
        );
        default.add_partition(tasks, Partition::new(cluster, topic, 0));
        Self {
            shared: Arc::new(Shared {
                cluster: Arc::clone(cluster),
                tasks: tasks.clone(),
                topic: topic.to_owned(),
                default,
                home_had_replies: AtomicBool::new(false),
                receipts,
                metrics,
                places: Mutex::default(),
                opening: Semaphore::new(1),
            }),
        }
    }

    /// Hands a record to its place (`None` is the contract's), as soon as there is room. What is not taken is done.
    ///
    /// No place must hold up the others. So a topic named by somebody else refuses at once for want of room, and a partition of
    /// our own once it is out of reach, if others take replies, or if nobody wants this one any more (`is_wanted`).
    pub(crate) async fn send(
        &self,
        place: Option<(&str, i32)>,
        mut record: Record,
        mut written: Written,
        is_wanted: impl Fn() -> bool,
    ) -> Result<(), Refused> {
        let shared = &self.shared;
        loop {
            let foreign = place.is_some_and(|(topic, _)| topic != shared.topic);
            let producer = match place {
                Some((topic, partition)) if foreign || partition != 0 => {
                    match shared.outbox_for_reply(topic, partition).await {
                        Ok(producer) => producer,
                        Err(refused) => {
                            written.done();
                            return Err(refused);
                        }
                    }
                }
                _ => {
                    shared.home_had_replies.store(true, Ordering::Relaxed);
                    shared.default.clone()
                }
            };
            if foreign {
                return producer.try_send(record, written).map_err(|Full(written)| {
                    written.done();
                    Refused::Full
                });
            }
            match producer
                .send(record, written, || is_wanted() && !shared.others_are_served())
                .await
            {
                Ok(()) => return Ok(()),
                Err(SendError::Unreachable(written)) => {
                    written.done();
                    return Err(Refused::Full);
                }
                // Closed for a newer one, just now.
                Err(SendError::Closed(back, token)) => (record, written) = (back, token),
            }
        }
    }

    /// Hands an heartbeat to a partition of the reply topic, if there is room for it and the place is open or need not
    /// take another's. Never waits for longer than it takes to open the place.
    pub(crate) async fn heartbeat(&self, partition: i32, record: Record, permit: OwnedSemaphorePermit) {
        let shared = &self.shared;
        let producer = match partition {
            0 => shared.default.clone(),
            _ if shared.places.lock().has_room_for(&shared.topic, partition) => {
                match shared.producer(&shared.topic, partition).await {
                    Ok(producer) => producer,
                    Err(_) => return,
                }
            }
            _ => return,
        };
        // One that finds no room is not missed: replies are under way, and say as much.
        let _ = producer.try_send(record, Written::Heartbeat(permit));
    }

    /// Takes nothing more, and waits until everything is on_delivery or `limit` has passed. Returns whether it was.
    pub(crate) async fn flush(&self, limit: Duration) -> bool {
        let producers = self.shared.places.lock().producers();
        let all = producers.iter().chain([&self.shared.default]).map(|it| it.close(limit));
        join_all(all).await.into_iter().all(|flushed| flushed)
    }
}

fn settings(delivery_timeout: Duration) -> ProducerSettings {
    ProducerSettings {
        connections: MAX_PRODUCER_CONNECTIONS,
        max_bytes: BUFFER_BYTES,
        delivery_timeout,
        in_flight: None,
    }
}

// === impl Shared ===

impl Shared {
    /// Whether there is a place that has had replies and takes them.
    fn others_are_served(&self) -> bool {
        let default = self.home_had_replies.load(Ordering::Relaxed) && self.default.is_reachable();
        default || self.places.lock().are_served()
    }

    async fn outbox_for_reply(&self, topic: &str, partition: i32) -> Result<Producer<ReplyDelivery>, Refused> {
        let producer = self.producer(topic, partition).await?;
        self.places.lock().had_reply(topic, partition);
        Ok(producer)
    }

    async fn producer(&self, topic: &str, partition: i32) -> Result<Producer<ReplyDelivery>, Refused> {
        if let Some(producer) = self.places.lock().get(topic, partition) {
            return Ok(producer);
        }
        // It is never closed; without a permit the attempt is merely not the only one.
        let _permit = self.opening.acquire().await;
        if let Some(producer) = self.places.lock().get(topic, partition) {
            return Ok(producer);
        }
        self.look_up(topic, partition).await?;
        Ok(self.open(topic, partition))
    }

    /// Whether the cluster has it.
    async fn look_up(&self, topic: &str, partition: i32) -> Result<(), Refused> {
        let patiently = topic == self.topic;
        if let Some(known) = self.places.lock().look_up(topic, partition, patiently) {
            return known;
        }
        let delivery_timeout = if patiently {
            METADATA_TIMEOUT
        } else {
            FOREIGN_METADATA_TIMEOUT
        };
        let begun = Instant::now();
        let mut backoff = Backoff::default();
        let answer = loop {
            match self.cluster.topics().await {
                Err(_) if begun.elapsed() < delivery_timeout => backoff.pause().await,
                answer => break answer,
            }
        };
        let mut places = self.places.lock();
        let absence = match answer {
            Ok(listed) => {
                places.listed = listed;
                Refused::Missing
            }
            Err(error) => {
                warn!(error = %ErrorChain(&error), topic, partition, "the place of a reply cannot be looked up");
                Refused::Unknown
            }
        };
        places.asked = Some(Asked {
            at: Instant::now(),
            absence,
            patiently,
        });
        places.look_up(topic, partition, patiently).unwrap_or(Err(absence))
    }

    fn open(&self, topic: &str, partition: i32) -> Producer<ReplyDelivery> {
        let delivery_timeout = if topic == self.topic {
            DELIVERY_TIMEOUT
        } else {
            FOREIGN_DELIVERY_TIMEOUT
        };
        let producer = Producer::new(
            settings(delivery_timeout),
            self.receipts.clone(),
            None,
            self.metrics.clone(),
        );
        let mut places = self.places.lock();
        let closed = places.insert(&self.topic, (topic, partition), producer.clone());
        let open = places.producers();
        drop(places);
        let connections = (MAX_PRODUCER_CONNECTIONS / (open.len() + 1)).max(1);
        for it in open.iter().chain([&self.default]) {
            it.set_max_connections(connections);
        }
        producer.add_partition(&self.tasks, Partition::new(&self.cluster, topic, partition));
        info!(topic, partition, places = open.len() + 1, "replies go to another place");
        if let Some(closed) = closed {
            self.tasks.spawn(async move {
                if !closed.close(LAST_REPLIES).await {
                    closed.abandon();
                }
            });
        }
        producer
    }
}

// === impl Producers ===

impl Producers {
    fn get(&mut self, topic: &str, partition: i32) -> Option<Producer<ReplyDelivery>> {
        let place = self.open.get_mut(topic)?.get_mut(&partition)?;
        self.clock += 1;
        place.used = self.clock;
        Some(place.producer.clone())
    }

    fn had_reply(&mut self, topic: &str, partition: i32) {
        let place = self.open.get_mut(topic).and_then(|it| it.get_mut(&partition));
        if let Some(place) = place {
            place.had_replies = true;
        }
    }

    /// Whether one that has had replies takes them.
    fn are_served(&self) -> bool {
        let mut places = self.open.values().flat_map(BTreeMap::values);
        places.any(|it| it.had_replies && it.producer.is_reachable())
    }

    /// Whether the cluster has a place, as far as it was asked; `None` if it is to be asked. Patience is not content with an
    /// impatient attempt that was in vain.
    fn look_up(&self, topic: &str, partition: i32, patiently: bool) -> Option<Result<(), Refused>> {
        if self.listed.get(topic).is_some_and(|it| it.contains(&partition)) {
            return Some(Ok(()));
        }
        let asked = self.asked.filter(|it| it.at.elapsed() < METADATA_MAX_AGE)?;
        let in_vain = asked.absence == Refused::Unknown && !asked.patiently;
        (!patiently || !in_vain).then_some(Err(asked.absence))
    }

    /// Whether a place is open or can be opened without closing another.
    fn has_room_for(&self, topic: &str, partition: i32) -> bool {
        let is_open = self.open.get(topic).is_some_and(|it| it.contains_key(&partition));
        is_open || !self.is_full()
    }

    fn is_full(&self) -> bool {
        // The default is a place too, and so would be a new one.
        self.open.values().map(BTreeMap::len).sum::<usize>() + 2 > MAX_PRODUCERS
    }

    /// Adds one, and gives the one that has to make room for it.
    fn insert(
        &mut self,
        own: &str,
        (topic, partition): (&str, i32),
        producer: Producer<ReplyDelivery>,
    ) -> Option<Producer<ReplyDelivery>> {
        let removed = self.is_full().then(|| self.remove_oldest(own)).flatten();
        self.clock += 1;
        let place = ReplyProducer {
            producer,
            used: self.clock,
            had_replies: false,
        };
        self.open.entry(topic.to_owned()).or_default().insert(partition, place);
        removed
    }

    /// Of the places of topics named by others, as long as there are any: in our own gateways wait for announcements, too.
    fn remove_oldest(&mut self, own: &str) -> Option<Producer<ReplyDelivery>> {
        let all = self.open.iter().flat_map(|(topic, partitions)| {
            let key =
                move |(partition, place): (&i32, &ReplyProducer)| (topic == own, place.used, topic.clone(), *partition);
            partitions.iter().map(key)
        });
        let (_, _, topic, partition) = all.min()?;
        let partitions = self.open.get_mut(&topic)?;
        let removed = partitions.remove(&partition);
        if partitions.is_empty() {
            self.open.remove(&topic);
        }
        removed.map(|it| it.producer)
    }

    fn producers(&self) -> Vec<Producer<ReplyDelivery>> {
        let places = self.open.values().flat_map(BTreeMap::values);
        places.map(|it| it.producer.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;
    use shared::readiness::Readiness;
    use tokio::time::timeout;

    use super::*;
    use crate::metrics::Metrics;

    fn metrics() -> (ReplyDelivery, ProducerMetrics) {
        let mut registry = Registry::default();
        let receipts = ReplyDelivery(Metrics::register(&mut registry));
        (receipts, ProducerMetrics::register(&mut registry))
    }

    fn producer() -> Producer<ReplyDelivery> {
        let (receipts, metrics) = metrics();
        Producer::new(settings(DELIVERY_TIMEOUT), receipts, None, metrics)
    }

    /// On a busy machine.
    const SOON: Duration = Duration::from_secs(20);

    /// Of a cluster that cannot be reached.
    fn unreachable() -> ReplyProducers {
        // Nobody listens on it, and whoever is not root cannot.
        let cluster = Arc::new(Cluster::new("test", vec!["127.0.0.1:1".to_owned()], Vec::new()));
        let (receipts, metrics) = metrics();
        let health_check = Readiness::default().health_check("outbox");
        ReplyProducers::new(&cluster, &Tasks::default(), "pong", receipts, health_check, metrics)
    }

    /// Sends more to a place than may wait there.
    async fn fill(
        destinations: &ReplyProducers,
        place: Option<(&str, i32)>,
        is_wanted: impl Fn() -> bool,
    ) -> Result<(), Refused> {
        let permits = Arc::new(Semaphore::new(5));
        for _ in 0..5 {
            let record = Record::new(Vec::new(), vec![0; BUFFER_BYTES / 4]);
            let permit = Arc::clone(&permits).try_acquire_owned().unwrap();
            destinations
                .send(place, record, Written::Heartbeat(permit), &is_wanted)
                .await?;
        }
        Ok(())
    }

    /// The cluster has two partitions, as far as is known.
    #[tokio::test]
    async fn a_place_out_of_reach_is_waited_for_as_long_as_a_reply_is_wanted() {
        let destinations = unreachable();
        let shared = &destinations.shared;
        shared.places.lock().listed = [("pong".to_owned(), [0, 1].into())].into();
        let places = [None, Some(("pong", 1))];
        for place in places {
            let alone = timeout(Duration::from_secs(5), fill(&destinations, place, || true)).await;
            assert!(alone.is_err(), "all are out of reach, {place:?}: {alone:?}");
        }
        for place in places {
            let refused = timeout(SOON, fill(&destinations, place, || false)).await;
            assert_eq!(refused, Ok(Err(Refused::Full)), "nobody wants them, {place:?}");
        }
    }

    #[tokio::test]
    async fn whoever_names_a_place_holds_up_nobody_while_the_cluster_does_not_answer() {
        let destinations = unreachable();
        for (topic, delivery_timeout) in [
            ("other", FOREIGN_METADATA_TIMEOUT),
            ("pong", METADATA_TIMEOUT),
            ("another", FOREIGN_METADATA_TIMEOUT),
        ] {
            let begun = Instant::now();
            let sent = fill(&destinations, Some((topic, 1)), || true);
            let sent = timeout(delivery_timeout + SOON, sent).await;
            assert_eq!(sent, Ok(Err(Refused::Unknown)), "{topic}");
            assert!(begun.elapsed() >= delivery_timeout, "{topic}");
            // What was heard is too old for the next one.
            tokio::time::sleep(METADATA_MAX_AGE).await;
        }
    }

    #[test]
    fn places_of_our_own_topic_are_the_last_to_go() {
        let mut places = Producers::default();
        assert!(places.insert("pong", ("pong", 1), producer()).is_none());
        for partition in 0.. {
            if places.insert("pong", ("other", partition), producer()).is_some() {
                break;
            }
        }
        assert!(places.get("pong", 1).is_some(), "it is the oldest");
        assert!(places.get("other", 0).is_none(), "it is the oldest of the others");
        assert!(places.get("other", 1).is_some());
    }
}
