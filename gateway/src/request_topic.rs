//! The producers of one request topic: one for records without a key of their own, which go round-robin over the partitions,
//! and one for each partition for records that must keep the order of their key.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use kafka::{
    Backoff, Cluster, MAX_PRODUCER_CONNECTIONS, Partition, PartitionDiscovery, Producer, ProducerMetrics,
    ProducerSettings, Rebalance, Record, partition_for_key,
};
use parking_lot::RwLock;
use prometheus_client::metrics::gauge::Gauge;
use shared::{config::Partitions, error_chain::ErrorChain, readiness::HealthCheck, tasks::Tasks};
use tokio::time::Instant;
use uuid::Uuid;

use crate::in_flight::InFlight;

/// Records that wait in the producers of a topic, in bytes.
const PRODUCER_BYTES: usize = 16 << 20;

/// The least of it that a partition has.
const MIN_PARTITION_BYTES: usize = 1 << 20;

/// A topic that requests are written to.
#[derive(Debug)]
pub(crate) struct RequestTopic {
    name: String,
    wanted: Partitions,
    in_flight: InFlight,
    metrics: ProducerMetrics,
    health_check: HealthCheck,
    /// `None` when all routes have a key.
    unkeyed: Option<Arc<CountedProducer>>,
    has_keys: bool,
    partitions: RwLock<PartitionProducers>,
}

#[derive(Debug, Default)]
struct PartitionProducers {
    known: BTreeSet<i32>,
    /// By partition; empty when no route has a key.
    keyed: Vec<Arc<CountedProducer>>,
}

/// A producer, and the number of the requests in flight that use it: its linger follows it.
#[derive(Debug)]
struct CountedProducer {
    producer: Producer<InFlight>,
    in_flight: Gauge,
}

/// A producer for one request, which is counted there until this is dropped.
#[derive(Debug)]
pub(crate) struct RequestProducer(Arc<CountedProducer>);

// === impl RequestTopic ===

impl RequestTopic {
    /// A topic without known partitions. `health_check` is ready while one partition is connected.
    pub(crate) fn new(
        name: &str,
        wanted: Partitions,
        (has_unkeyed, has_keys): (bool, bool),
        in_flight: InFlight,
        health_check: HealthCheck,
        metrics: ProducerMetrics,
    ) -> Self {
        let unkeyed = has_unkeyed.then(|| {
            CountedProducer::new(
                MAX_PRODUCER_CONNECTIONS,
                PRODUCER_BYTES,
                in_flight.clone(),
                health_check.part(),
                metrics.clone(),
            )
        });
        Self {
            name: name.to_owned(),
            wanted,
            in_flight,
            metrics,
            health_check,
            unkeyed,
            has_keys,
            partitions: RwLock::default(),
        }
    }

    /// Adds the partitions of the topic, including those created later, and removes those that the topic no longer has.
    pub(crate) async fn follow_partitions(self: Arc<Self>, cluster: Arc<Cluster>, tasks: Tasks) -> Infallible {
        if self.wanted == Partitions::All {
            self.wait_for_topic(&cluster).await;
        }
        let mut discovery = PartitionDiscovery::new(&cluster, &self.name, self.wanted.clone());
        loop {
            match discovery.next().await {
                Rebalance::Assigned(added) => self.add(added, &cluster, &tasks),
                Rebalance::Revoked(removed) => self.remove(&removed).await,
                // Only a group loses partitions.
                Rebalance::Lost => {}
            }
        }
    }

    /// Waits until Kafka lists its partitions; the health check has the cause meanwhile.
    async fn wait_for_topic(&self, cluster: &Cluster) {
        let mut backoff = Backoff::default();
        loop {
            match cluster.partitions(&self.name).await {
                Ok(found) if !found.is_empty() => return,
                Ok(_) => self
                    .health_check
                    .not_ready(&format_args!("topic {:?} has no partitions", self.name)),
                Err(error) => self.health_check.not_ready(&ErrorChain(&error)),
            }
            backoff.pause().await;
        }
    }

    fn add(&self, added: BTreeSet<i32>, cluster: &Arc<Cluster>, tasks: &Tasks) {
        let mut partitions = self.partitions.write();
        if let Some(unkeyed) = &self.unkeyed {
            for partition in &added {
                unkeyed
                    .producer
                    .add_partition(tasks, Partition::new(cluster, &self.name, *partition));
            }
        }
        partitions.known.extend(added);
        if !self.has_keys {
            return;
        }
        let count = partitions.known.len();
        let max_bytes = (PRODUCER_BYTES / count.max(1)).max(MIN_PARTITION_BYTES);
        // Partitions of a topic are numbered from 0 on.
        for number in partitions.keyed.len()..count {
            // One connection keeps the order.
            let keyed = CountedProducer::new(
                1,
                max_bytes,
                self.in_flight.clone(),
                self.health_check.part(),
                self.metrics.clone(),
            );
            let number = i32::try_from(number).unwrap_or(i32::MAX);
            keyed
                .producer
                .add_partition(tasks, Partition::new(cluster, &self.name, number));
            partitions.keyed.push(keyed);
        }
    }

    /// Records with a key that are queued for a removed partition are not sent: their requests fail.
    async fn remove(&self, removed: &BTreeSet<i32>) {
        let keyed: Vec<_> = {
            let mut partitions = self.partitions.write();
            partitions.known.retain(|partition| !removed.contains(partition));
            let count = partitions.known.len().min(partitions.keyed.len());
            partitions.keyed.drain(count..).collect()
        };
        if let Some(unkeyed) = &self.unkeyed {
            for partition in removed {
                unkeyed.producer.remove_partition(*partition);
            }
        }
        for keyed in keyed {
            keyed.producer.close(Duration::ZERO).await;
            keyed.producer.abandon();
        }
    }

    /// Whether its partitions are known: before, no record can be written.
    pub(crate) fn is_known(&self) -> bool {
        !self.partitions.read().known.is_empty()
    }

    /// The partitions that are written to.
    pub(crate) fn partitions(&self) -> BTreeSet<i32> {
        self.partitions.read().known.clone()
    }

    /// The producer for a record with this key of its own, or without one. `None` while the partitions are unknown.
    pub(crate) fn producer(&self, key: Option<&[u8]>) -> Option<RequestProducer> {
        let partitions = self.partitions.read();
        let producer = match key {
            None => self.unkeyed.as_ref().filter(|_| !partitions.known.is_empty()),
            Some(key) => partitions.keyed.get(partition_for_key(key, partitions.keyed.len())),
        };
        producer.map(RequestProducer::new)
    }

    /// Closes its producers, and waits up to `limit` until every record has its outcome. Returns whether all have.
    pub(crate) async fn close(&self, limit: Duration) -> bool {
        let producers: Vec<_> = self
            .unkeyed
            .iter()
            .chain(&self.partitions.read().keyed)
            .cloned()
            .collect();
        let mut closing = tokio::task::JoinSet::new();
        for counted in producers {
            closing.spawn(async move { counted.producer.close(limit).await });
        }
        closing.join_all().await.into_iter().all(|is_empty| is_empty)
    }
}

// === impl CountedProducer ===

impl CountedProducer {
    fn new(
        connections: usize,
        max_bytes: usize,
        in_flight: InFlight,
        health_check: HealthCheck,
        metrics: ProducerMetrics,
    ) -> Arc<Self> {
        let gauge = Gauge::default();
        let settings = ProducerSettings {
            connections,
            max_bytes,
            // A record is sent once: a repeated request would be executed twice.
            delivery_timeout: Duration::ZERO,
            in_flight: Some(gauge.clone()),
        };
        Arc::new(Self {
            producer: Producer::new(settings, in_flight, health_check, metrics),
            in_flight: gauge,
        })
    }
}

// === impl RequestProducer ===

impl RequestProducer {
    fn new(producer: &Arc<CountedProducer>) -> Self {
        producer.in_flight.inc();
        Self(Arc::clone(producer))
    }

    /// Queues the record of the request. Returns whether there is room: not when the producer is full or closed.
    pub(crate) fn try_send(&self, record: Record, id: Uuid, deadline: Instant) -> bool {
        self.0.producer.try_send(record, id, Some(deadline)).is_ok()
    }
}

impl Drop for RequestProducer {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

#[cfg(test)]
mod tests {
    use kafka::Security;
    use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
    use shared::readiness::Readiness;

    use super::*;

    #[tokio::test]
    async fn keys_go_to_the_partitions_that_the_topic_has() {
        let topic = RequestTopic::new(
            "orders",
            Partitions::All,
            (true, true),
            InFlight::new(1, &[], Gauge::default(), Vec::new()),
            Readiness::default().health_check("topic"),
            ProducerMetrics::register(&mut Registry::default()),
        );
        let cluster = Arc::new(Cluster::new("gateway", Vec::new(), Security::default(), Vec::new()));
        let tasks = Tasks::default();
        let counts = || (topic.partitions().len(), topic.partitions.read().keyed.len());
        assert!(!topic.is_known() && topic.producer(Some(b"key")).is_none());
        topic.add([0, 1].into(), &cluster, &tasks);
        topic.add([2, 3].into(), &cluster, &tasks);
        assert_eq!(counts(), (4, 4));

        let removed: Vec<_> = topic.partitions.read().keyed[1..].to_vec();
        topic.remove(&[1, 2, 3].into()).await;
        assert_eq!(counts(), (1, 1));
        assert!(topic.producer(Some(b"key")).is_some());
        let send = |counted: &CountedProducer| {
            let record = kafka::Record::new(b"key".to_vec(), Vec::new());
            counted.producer.try_send(record, uuid::Uuid::new_v4(), None)
        };
        assert!(
            removed.iter().all(|counted| send(counted).is_err()),
            "a request that still has the producer is refused"
        );

        topic.add([1].into(), &cluster, &tasks);
        assert_eq!(counts(), (2, 2));
    }
}
