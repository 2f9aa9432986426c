//! What is measured: loads, lengths and rounds.

use std::{fmt, time::Duration};

/// A load on one variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shape {
    /// So many connections, each with one request at a time.
    Closed(usize),
    /// Requests at this share, in percent, of what the variant did at its best in a closed loop.
    Share(u32),
    /// So many requests per second.
    Rate(u32),
    /// So many open connections with little to do.
    Idle(usize),
}

/// The size of a run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) closed: Vec<usize>,
    pub(crate) shares: Vec<u32>,
    /// Open connections while memory is looked at.
    pub(crate) idle: Option<usize>,
    pub(crate) rounds: usize,
    /// How often the judged variant meets each of those by which it is judged.
    pub(crate) contests: usize,
    /// Rounds of the sizes of a fleet against each other.
    pub(crate) scale_rounds: usize,
    pub(crate) cold_starts: usize,
    pub(crate) warmup: Duration,
    pub(crate) measured: Duration,
    /// The virtual machine of Kafka compiles while it runs; before that it is another system.
    pub(crate) engine_warmup: Duration,
}

// === impl Plan ===

impl Plan {
    /// All of it, in less than ten minutes.
    pub(crate) fn full() -> Self {
        Self {
            closed: vec![1, 8, 64, 256, 1024, 10_000],
            shares: vec![50, 80],
            idle: Some(10_000),
            rounds: 3,
            contests: 12,
            scale_rounds: 3,
            cold_starts: 7,
            warmup: Duration::from_millis(500),
            measured: Duration::from_millis(1_500),
            engine_warmup: Duration::from_secs(12),
        }
    }

    /// The most important ratios, in less than a minute.
    pub(crate) fn quick() -> Self {
        Self {
            closed: vec![1, 64, 1024],
            shares: Vec::new(),
            idle: None,
            rounds: 2,
            contests: 0,
            scale_rounds: 0,
            cold_starts: 0,
            warmup: Duration::from_millis(300),
            measured: Duration::from_millis(800),
            engine_warmup: Duration::from_secs(4),
        }
    }
}

// === impl Shape ===

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(connections) => write!(f, "c={connections}"),
            Self::Share(percent) => write!(f, "{percent} % of capacity"),
            Self::Rate(rate) => write!(f, "{rate} requests/s"),
            Self::Idle(connections) => write!(f, "{connections} idle"),
        }
    }
}
