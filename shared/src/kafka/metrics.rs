//! What the seam counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// What the tails of a topic count: together, but for the lag, which each partition has for itself.
#[derive(Debug, Clone, Default)]
pub struct TailMetrics {
    /// Records that could not be decoded.
    pub(super) skipped: Counter,
    /// Records that were deleted before they were read.
    pub(super) lost: Counter,
    /// Times that an open transaction of another producer held the tail back.
    pub(super) stalls: Counter,
    /// Records in the log that are not read yet.
    pub(super) lag: Gauge,
    lags: Family<Label, Gauge>,
    label: Option<Label>,
    /// New connections after the first.
    pub(super) reconnects: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    partition: i32,
}

/// What one outbox counts.
#[derive(Debug, Clone, Default)]
pub struct OutboxMetrics {
    /// Frames sent.
    pub(super) frames: Counter,
    /// Frames that failed, and their connections with them.
    pub(super) connection_failures: Counter,
}

// === impl TailMetrics ===

impl TailMetrics {
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
    pub(super) fn retire(&self) {
        if let Some(label) = &self.label {
            self.lags.remove(label);
        }
    }
}

// === impl OutboxMetrics ===

impl OutboxMetrics {
    /// Registers them under `registry`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("kafka_outbox");
        registry.register("frames", "Produce requests sent", metrics.frames.clone());
        registry.register(
            "connection_failures",
            "Connections given up after a failed frame",
            metrics.connection_failures.clone(),
        );
        metrics
    }
}
