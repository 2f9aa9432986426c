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
    /// Commits of positions that Kafka took.
    pub(crate) commits: Counter,
    /// Commits and look-ups of positions that failed, for one partition or for all.
    pub(crate) commits_failed: Counter,
    /// Partitions that are read.
    pub(crate) partitions: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Skipped {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Commit {
    outcome: &'static str,
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
        let commits = Family::<Commit, Counter>::default();
        let metrics = Self {
            requests: Counter::default(),
            expired: skipped.get_or_create_owned(&Skipped { reason: "expired" }),
            skipped,
            acknowledged: replies.get_or_create_owned(&Reply { fate: "acknowledged" }),
            refused: replies.get_or_create_owned(&Reply { fate: "refused" }),
            commits: commits.get_or_create_owned(&Commit { outcome: "taken" }),
            commits_failed: commits.get_or_create_owned(&Commit { outcome: "failed" }),
            partitions: Gauge::default(),
        };
        registry.register("requests", "Requests read", metrics.requests.clone());
        registry.register(
            "records_skipped",
            "Requests not answered, by reason",
            metrics.skipped.clone(),
        );
        registry.register("replies", "Replies by what Kafka said", replies);
        registry.register(
            "position_commits",
            "Commits of positions, and look-ups that failed",
            commits,
        );
        registry.register("partitions", "Partitions that are read", metrics.partitions.clone());
        metrics
    }

    /// A request is not answered.
    pub(crate) fn skipped(&self, reason: &'static str) {
        self.skipped.get_or_create(&Skipped { reason }).inc();
    }
}
