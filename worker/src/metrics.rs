//! What the worker counts. Every counter of the hot path is looked up once, at the start.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Counters of the worker.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// Requests read.
    pub(crate) requests: Counter,
    /// Requests not answered, by reason.
    skipped: Family<Skipped, Counter>,
    /// Those that nobody waits for any more.
    pub(crate) expired: Counter,
    /// Replies that Kafka has.
    pub(crate) acknowledged: Counter,
    /// Replies that Kafka will never take.
    pub(crate) refused: Counter,
    /// Partitions that are read.
    pub(crate) partitions: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Skipped {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reply {
    fate: &'static str,
}

// === impl Metrics ===

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let skipped = Family::<Skipped, Counter>::default();
        let replies = Family::<Reply, Counter>::default();
        let metrics = Self {
            requests: Counter::default(),
            expired: skipped.get_or_create_owned(&Skipped { reason: "expired" }),
            skipped,
            acknowledged: replies.get_or_create_owned(&Reply { fate: "acknowledged" }),
            refused: replies.get_or_create_owned(&Reply { fate: "refused" }),
            partitions: Gauge::default(),
        };
        registry.register("requests", "Requests read", metrics.requests.clone());
        registry.register(
            "records_skipped",
            "Requests not answered, by reason",
            metrics.skipped.clone(),
        );
        registry.register("replies", "Replies by what Kafka said", replies);
        registry.register("partitions", "Partitions that are read", metrics.partitions.clone());
        metrics
    }

    /// A request is not answered.
    pub(crate) fn skipped(&self, reason: &'static str) {
        self.skipped.get_or_create(&Skipped { reason }).inc();
    }
}
