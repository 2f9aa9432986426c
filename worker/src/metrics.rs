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
    /// Requests handled, and those of them that failed.
    handled: Counter,
    failed: Counter,
    /// Handlers that panicked.
    pub(crate) panics: Counter,
    /// Handlers that were dropped at their deadline.
    pub(crate) too_late: Counter,
    /// Requests that were written to the dead letters.
    pub(crate) dead_letters: Counter,
    /// Handlers that run.
    pub(crate) handlers: Gauge,
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
            handled: Counter::default(),
            failed: Counter::default(),
            panics: Counter::default(),
            too_late: Counter::default(),
            dead_letters: Counter::default(),
            handlers: Gauge::default(),
        };
        registry.register("requests", "Requests read", metrics.requests.clone());
        registry.register(
            "records_skipped",
            "Requests not answered, by reason",
            metrics.skipped.clone(),
        );
        registry.register("replies", "Replies by outcome of the produce request", replies);
        registry.register("partitions", "Partitions that are read", metrics.partitions.clone());
        registry.register("handlers", "Handlers that run", metrics.handlers.clone());
        for (name, help, counter) in [
            ("handled", "Attempts to handle a request", &metrics.handled),
            ("handler_failures", "Attempts that failed", &metrics.failed),
            ("handler_panics", "Handlers that panicked", &metrics.panics),
            (
                "handler_timeouts",
                "Handlers that were dropped at their deadline",
                &metrics.too_late,
            ),
            (
                "dead_letters",
                "Requests written to the dead letters",
                &metrics.dead_letters,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        metrics
    }

    /// Counts an attempt to handle a request.
    pub(crate) fn handled(&self, has_failed: bool) {
        self.handled.inc();
        if has_failed {
            self.failed.inc();
        }
    }

    /// The attempts so far, and those of them that failed.
    pub(crate) fn attempts(&self) -> (u64, u64) {
        (self.handled.get(), self.failed.get())
    }

    /// Counts a request that is not answered.
    pub(crate) fn skipped(&self, reason: &'static str) {
        self.skipped.get_or_create(&SkippedLabel { reason }).inc();
    }
}
