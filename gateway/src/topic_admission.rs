//! Admission by request topic: whether its workers are there and fast enough. A request topic counts once for each reply
//! topic that its routes have.
//!
//! - While no worker is there, one request per [`PROBE_INTERVAL`] is admitted as a probe: a worker that sends no heartbeats
//!   shows itself only by a reply.
//! - Only an admitted request uses up the probe. A request refused for another reason leaves it to the next one.

use std::time::Duration;

use tokio::time::Instant;

use crate::{adaptive_limit::AdaptiveLimit, response::GatewayError};

/// The shortest time between two probes, and between the loss of the last worker and the first probe.
pub(crate) const PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// Requests refused before each probe. At a low request rate every caller gets its 503 at once, and none waits in vain.
pub(crate) const REFUSED_PER_PROBE: u32 = 20;

/// Decides on the requests to one topic. Does no I/O, and is told the time.
#[derive(Debug)]
pub(crate) struct TopicAdmission {
    /// The reply offset is fixed: no reply can be missed.
    is_ready: bool,
    /// `None` while a worker is there, and while it is unknown.
    no_worker: Option<NoWorker>,
    in_flight: usize,
    adaptive_limit: AdaptiveLimit,
}

#[derive(Debug)]
struct NoWorker {
    next_probe: Instant,
    /// Since the last probe.
    refused: u32,
}

// === impl TopicAdmission ===

impl TopicAdmission {
    /// For routes with these timeouts.
    pub(crate) fn new(timeouts: impl Iterator<Item = Duration> + Clone) -> Self {
        let longest = timeouts.clone().max().unwrap_or_default();
        Self {
            is_ready: false,
            no_worker: None,
            in_flight: 0,
            adaptive_limit: AdaptiveLimit::new(timeouts.min().unwrap_or_default(), longest),
        }
    }

    pub(crate) fn ready(&mut self) {
        self.is_ready = true;
    }

    /// The reply partition is to be chosen again. Whether a worker is there is unknown until then.
    pub(crate) fn not_ready(&mut self) {
        self.is_ready = false;
        self.no_worker = None;
    }

    pub(crate) fn set_no_worker(&mut self, no_worker: bool, now: Instant) {
        self.no_worker = no_worker.then(|| NoWorker::new(now));
    }

    /// `count` replies arrived; the last one took `latency`.
    pub(crate) fn replied(&mut self, count: u32, latency: Duration, now: Instant) {
        self.adaptive_limit.replied(count, latency, now);
    }

    /// Whether replies can be received, and workers are there. Uses up no probe.
    pub(crate) fn check_presence(&mut self, now: Instant) -> Result<(), GatewayError> {
        if !self.is_ready {
            return Err(GatewayError::NotReady);
        }
        if let Some(no_worker) = &mut self.no_worker
            && !no_worker.is_probe_due(now)
        {
            no_worker.refused = no_worker.refused.saturating_add(1);
            return Err(GatewayError::NoWorker);
        }
        Ok(())
    }

    /// Whether a request with this timeout can be answered in time.
    pub(crate) fn check_pace(&self, timeout: Duration, now: Instant) -> Result<(), GatewayError> {
        if self.in_flight >= self.adaptive_limit.limit(timeout, now) {
            return Err(GatewayError::Overloaded);
        }
        Ok(())
    }

    /// Counts an admitted request; returns whether it is a probe.
    pub(crate) fn enter(&mut self, now: Instant) -> bool {
        self.in_flight += 1;
        let is_probe = self.no_worker.is_some();
        if is_probe {
            self.no_worker = Some(NoWorker::new(now));
        }
        is_probe
    }

    pub(crate) fn leave(&mut self) {
        self.in_flight -= 1;
    }

    /// Takes a probe back whose record was never handed to the producer: the next request is a probe.
    pub(crate) fn return_probe(&mut self, now: Instant) {
        if let Some(no_worker) = &mut self.no_worker {
            *no_worker = NoWorker {
                next_probe: now,
                refused: REFUSED_PER_PROBE,
            };
        }
    }
}

// === impl NoWorker ===

impl NoWorker {
    fn new(now: Instant) -> Self {
        Self {
            next_probe: now + PROBE_INTERVAL,
            refused: 0,
        }
    }

    fn is_probe_due(&self, now: Instant) -> bool {
        self.refused >= REFUSED_PER_PROBE && now >= self.next_probe
    }
}
