//! Metrics of the Kafka client.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::leader::Partition;

/// Metrics of consumers: counters shared by all partitions, and one lag gauge for each.
#[derive(Debug, Clone, Default)]
pub struct ConsumerMetrics {
    /// Records that could not be decoded.
    pub(crate) skipped: Counter,
    /// Records deleted before they were fetched.
    pub(crate) lost: Counter,
    /// Waits for an open transaction of another producer.
    pub(crate) stalls: Counter,
    /// Records in the log that are not fetched yet.
    pub(crate) lag: Gauge,
    lags: Family<PartitionLabel, Gauge>,
    label: Option<PartitionLabel>,
    /// Connections after the first.
    pub(crate) reconnects: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartitionLabel {
    topic: String,
    partition: i32,
}

/// Metrics of a producer.
#[derive(Debug, Clone, Default)]
pub struct ProducerMetrics {
    /// Produce requests sent.
    pub(crate) batches: Counter,
    /// Batches that failed, each with its connection.
    pub(crate) connection_failures: Counter,
}

/// Metrics of offset commits.
#[derive(Debug, Clone, Default)]
pub struct CommitMetrics {
    /// Commits that Kafka accepted whole.
    pub(crate) commits: Counter,
    /// Commits and offset fetches that failed, for one partition or for all.
    pub(crate) commits_failed: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

// === impl ConsumerMetrics ===

impl ConsumerMetrics {
    /// Registers the metrics with `registry`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("kafka_tail");
        for (name, help, counter) in [
            (
                "records_undecodable",
                "Records skipped because they cannot be decoded",
                &metrics.skipped,
            ),
            ("records_lost", "Records deleted before they were read", &metrics.lost),
            (
                "stalls",
                "Waits for an open transaction of another producer",
                &metrics.stalls,
            ),
            ("reconnects", "Connections made after the first", &metrics.reconnects),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "lag_records",
            "Records in the log that are not read yet",
            metrics.lags.clone(),
        );
        metrics
    }

    /// The metrics of one partition's consumer.
    #[must_use]
    pub fn for_partition(&self, partition: &Partition) -> Self {
        let label = PartitionLabel {
            topic: partition.topic().to_owned(),
            partition: partition.number(),
        };
        Self {
            lag: self.lags.get_or_create_owned(&label),
            label: Some(label),
            ..self.clone()
        }
    }

    /// Removes the lag of a partition that is not read any more.
    pub(crate) fn remove_lag(&self) {
        if let Some(label) = &self.label {
            self.lags.remove(label);
        }
    }
}

// === impl ProducerMetrics ===

impl ProducerMetrics {
    /// Registers the metrics with `registry`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("kafka_outbox");
        registry.register("frames", "Produce requests sent", metrics.batches.clone());
        registry.register(
            "connection_failures",
            "Connections closed after a failed produce request",
            metrics.connection_failures.clone(),
        );
        metrics
    }
}

// === impl CommitMetrics ===

impl CommitMetrics {
    /// Registers the metrics with `registry`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let commits = Family::<OutcomeLabel, Counter>::default();
        let metrics = Self {
            commits: commits.get_or_create_owned(&OutcomeLabel { outcome: "taken" }),
            commits_failed: commits.get_or_create_owned(&OutcomeLabel { outcome: "failed" }),
        };
        registry.register(
            "position_commits",
            "Offset commits by outcome, and failed offset fetches",
            commits,
        );
        metrics
    }
}
