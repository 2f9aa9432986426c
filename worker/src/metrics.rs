//! The metrics of the worker. Every counter on the hot path is looked up once, at start-up.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Counters and gauges of the worker. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// Requests read.
    pub(crate) requests: Counter,
    /// Requests not answered, by reason.
    skipped: Family<SkippedLabel, Counter>,
    /// Requests not answered because their deadline has passed.
    pub(crate) expired: Counter,
    /// Replies that Kafka has acknowledged.
    pub(crate) acknowledged: Counter,
    /// Replies that Kafka has rejected for good, or not acknowledged within the delivery timeout.
    pub(crate) refused: Counter,
    /// Request partitions that are served.
    pub(crate) partitions: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SkippedLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReplyLabel {
    fate: &'static str,
}

// === impl Metrics ===

impl Metrics {
    /// Registers the metrics with `registry`.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let skipped = Family::<SkippedLabel, Counter>::default();
        let replies = Family::<ReplyLabel, Counter>::default();
        let metrics = Self {
            requests: Counter::default(),
            expired: skipped.get_or_create_owned(&SkippedLabel { reason: "expired" }),
            skipped,
            acknowledged: replies.get_or_create_owned(&ReplyLabel { fate: "acknowledged" }),
            refused: replies.get_or_create_owned(&ReplyLabel { fate: "refused" }),
            partitions: Gauge::default(),
        };
        registry.register("requests", "Requests read", metrics.requests.clone());
        registry.register(
            "records_skipped",
            "Requests not answered, by reason",
            metrics.skipped.clone(),
        );
        registry.register("replies", "Replies by outcome of the produce request", replies);
        registry.register("partitions", "Partitions that are read", metrics.partitions.clone());
        metrics
    }

    /// Counts a request that is not answered.
    pub(crate) fn skipped(&self, reason: &'static str) {
        self.skipped.get_or_create(&SkippedLabel { reason }).inc();
    }
}
