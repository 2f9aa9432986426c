//! What the seam counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// What the tails of a topic count: together, but for the lag, which each partition has for itself.
#[derive(Debug, Clone, Default)]
pub struct ConsumerMetrics {
    /// Records that could not be decoded.
    pub(crate) skipped: Counter,
    /// Records that were deleted before they were read.
    pub(crate) lost: Counter,
    /// Times that an open transaction of another producer held the tail back.
    pub(crate) stalls: Counter,
    /// Records in the log that are not read yet.
    pub(crate) lag: Gauge,
    lags: Family<Label, Gauge>,
    label: Option<Label>,
    /// New connections after the first.
    pub(crate) reconnects: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    partition: i32,
}

/// What one producer counts.
#[derive(Debug, Clone, Default)]
pub struct ProducerMetrics {
    /// Frames sent.
    pub(crate) batches: Counter,
    /// Frames that failed, and their connections with them.
    pub(crate) connection_failures: Counter,
}

/// What a worker counts of the offsets that it commits.
#[derive(Debug, Clone, Default)]
pub struct CommitMetrics {
    /// Commits that Kafka took.
    pub(crate) commits: Counter,
    /// Commits and look-ups that failed, for one partition or for all.
    pub(crate) commits_failed: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Commit {
    outcome: &'static str,
}

// === impl ConsumerMetrics ===

impl ConsumerMetrics {
    /// Registers them under `registry`.
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

    /// What the tail of one partition counts.
    #[must_use]
    pub fn of(&self, partition: i32) -> Self {
        let label = Label { partition };
        Self {
            lag: self.lags.get_or_create_owned(&label),
            label: Some(label),
            ..self.clone()
        }
    }

    /// The partition is not read any more.
    pub(crate) fn retire(&self) {
        if let Some(label) = &self.label {
            self.lags.remove(label);
        }
    }
}

// === impl ProducerMetrics ===

impl ProducerMetrics {
    /// Registers them under `registry`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("kafka_outbox");
        registry.register("frames", "Produce requests sent", metrics.batches.clone());
        registry.register(
            "connection_failures",
            "Connections given up after a failed frame",
            metrics.connection_failures.clone(),
        );
        metrics
    }
}

// === impl CommitMetrics ===

impl CommitMetrics {
    /// Registers them under `registry`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let commits = Family::<Commit, Counter>::default();
        let metrics = Self {
            commits: commits.get_or_create_owned(&Commit { outcome: "taken" }),
            commits_failed: commits.get_or_create_owned(&Commit { outcome: "failed" }),
        };
        registry.register(
            "position_commits",
            "Commits of positions, and look-ups that failed",
            commits,
        );
        metrics
    }
}
