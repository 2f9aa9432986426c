//! What the worker counts. Every counter is looked up once, at the start.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// Counters of the worker.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// Requests read.
    pub(crate) requests: Counter,
    /// Requests whose value the contract does not know.
    pub(crate) bad_value: Counter,
    /// Replies that Kafka has.
    pub(crate) acknowledged: Counter,
    /// Replies that Kafka will never take.
    pub(crate) refused: Counter,
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
            bad_value: skipped.get_or_create_owned(&Skipped { reason: "bad_value" }),
            acknowledged: replies.get_or_create_owned(&Reply { fate: "acknowledged" }),
            refused: replies.get_or_create_owned(&Reply { fate: "refused" }),
        };
        registry.register("requests", "Requests read", metrics.requests.clone());
        registry.register("records_skipped", "Requests not answered, by reason", skipped);
        registry.register("replies", "Replies by what Kafka said", replies);
        metrics
    }
}
