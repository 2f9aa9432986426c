//! What the seam counts.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

/// Counters of one tail.
#[derive(Debug, Clone, Default)]
pub struct TailMetrics {
    /// Records that could not be decoded.
    pub(super) skipped: Counter,
    /// Records that were deleted before they were read.
    pub(super) lost: Counter,
    /// Times that an open transaction of another producer held the tail back.
    pub(super) stalls: Counter,
    /// New connections after the first.
    pub(super) reconnects: Counter,
}

/// Counters of one outbox.
#[derive(Debug, Clone, Default)]
pub struct OutboxMetrics {
    /// Frames sent.
    pub(super) frames: Counter,
    /// Connections that failed.
    pub(super) reconnects: Counter,
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
        metrics
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
            "reconnects",
            "Connections given up after a failure",
            metrics.reconnects.clone(),
        );
        metrics
    }
}
