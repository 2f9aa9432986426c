//! Admission: whether the gateway takes one more request.
//!
//! - Reasons to refuse, in this order: the gateway is not ready or shuts down, no worker is there, `MAX_IN_FLIGHT` is reached,
//!   replies are too slow to answer in time.
//! - While no worker is there, one request per [`PROBE_INTERVAL`] is admitted as a probe: a worker that sends no heartbeats
//!   shows itself only by a reply.
//! - Only an admitted request uses up the probe. A request refused for another reason leaves it to the next one.

use std::time::Duration;

use tokio::time::Instant;

use crate::{adaptive_limit::AdaptiveLimit, response::GatewayError};

/// The shortest time between two probes, and between the loss of the last worker and the first probe.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// Requests refused before each probe. At a low request rate every caller gets its 503 at once, and none waits in vain.
const REFUSED_PER_PROBE: u32 = 20;

/// Decides on each request. Does no I/O, and is told the time.
#[derive(Debug)]
pub(crate) struct Admission {
    phase: Phase,
    /// `None` while a worker is there, and while it is unknown.
    no_worker: Option<NoWorker>,
    max_in_flight: usize,
    adaptive_limit: AdaptiveLimit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The reply offset is not fixed: a reply could be missed.
    NotReady,
    Ready,
    ShuttingDown,
}

#[derive(Debug)]
struct NoWorker {
    next_probe: Instant,
    /// Since the last probe.
    refused: u32,
}

// === impl Admission ===

impl Admission {
    pub(crate) fn new(max_in_flight: usize, reply_timeout: Duration) -> Self {
        Self {
            phase: Phase::NotReady,
            no_worker: None,
            max_in_flight,
            adaptive_limit: AdaptiveLimit::new(reply_timeout),
        }
    }

    /// The reply offset is fixed. Has no effect after [`Admission::shut_down`].
    pub(crate) fn ready(&mut self) {
        if self.phase == Phase::NotReady {
            self.phase = Phase::Ready;
        }
    }

    /// The reply partition is to be chosen again. Whether a worker is there is unknown until then.
    pub(crate) fn not_ready(&mut self) {
        if self.phase == Phase::Ready {
            self.phase = Phase::NotReady;
        }
        self.no_worker = None;
    }

    /// Refuses every request from now on.
    pub(crate) fn shut_down(&mut self) {
        self.phase = Phase::ShuttingDown;
    }

    pub(crate) fn set_no_worker(&mut self, no_worker: bool, now: Instant) {
        self.no_worker = no_worker.then(|| NoWorker::new(now));
    }

    /// `count` replies arrived; the last one took `latency`.
    pub(crate) fn replied(&mut self, count: u32, latency: Duration, now: Instant) {
        self.adaptive_limit.replied(count, latency, now);
    }

    /// Whether a request would be admitted now, beside `in_flight` others. Uses up no probe.
    pub(crate) fn check(&mut self, in_flight: usize, now: Instant) -> Result<(), GatewayError> {
        match self.phase {
            Phase::NotReady => return Err(GatewayError::NotReady),
            Phase::ShuttingDown => return Err(GatewayError::ShuttingDown),
            Phase::Ready => {}
        }
        if let Some(no_worker) = &mut self.no_worker
            && !no_worker.is_probe_due(now)
        {
            no_worker.refused = no_worker.refused.saturating_add(1);
            return Err(GatewayError::NoWorker);
        }
        if in_flight >= self.max_in_flight {
            return Err(GatewayError::Full);
        }
        if in_flight >= self.adaptive_limit.limit(now) {
            return Err(GatewayError::Overloaded);
        }
        Ok(())
    }

    /// Admits a request beside `in_flight` others; returns whether it is a probe.
    pub(crate) fn admit(&mut self, in_flight: usize, now: Instant) -> Result<bool, GatewayError> {
        self.check(in_flight, now)?;
        let is_probe = self.no_worker.is_some();
        if is_probe {
            self.no_worker = Some(NoWorker::new(now));
        }
        Ok(is_probe)
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

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_IN_FLIGHT: usize = 2;
    const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

    fn admission() -> Admission {
        let mut admission = Admission::new(MAX_IN_FLIGHT, REPLY_TIMEOUT);
        admission.ready();
        admission
    }

    /// No worker is there, and the next admitted request is a probe.
    fn with_probe_due() -> (Admission, Instant) {
        let (mut admission, start) = (admission(), Instant::now());
        admission.set_no_worker(true, start);
        for _ in 0..REFUSED_PER_PROBE {
            assert_eq!(admission.admit(0, start), Err(GatewayError::NoWorker));
        }
        (admission, start + PROBE_INTERVAL)
    }

    #[test]
    fn requests_are_admitted_between_ready_and_shutdown() {
        let now = Instant::now();
        let mut admission = Admission::new(MAX_IN_FLIGHT, REPLY_TIMEOUT);
        assert_eq!(admission.admit(0, now), Err(GatewayError::NotReady));
        admission.ready();
        assert_eq!(admission.admit(0, now), Ok(false));
        admission.set_no_worker(true, now);
        admission.not_ready();
        assert_eq!(admission.admit(0, now), Err(GatewayError::NotReady));
        admission.ready();
        assert_eq!(
            admission.admit(0, now),
            Ok(false),
            "whether a worker is there is unknown"
        );
        admission.shut_down();
        admission.not_ready();
        admission.ready();
        assert_eq!(admission.admit(0, now), Err(GatewayError::ShuttingDown));
    }

    #[test]
    fn max_in_flight_is_a_bound() {
        let (mut admission, now) = (admission(), Instant::now());
        assert_eq!(admission.admit(MAX_IN_FLIGHT - 1, now), Ok(false));
        assert_eq!(admission.admit(MAX_IN_FLIGHT, now), Err(GatewayError::Full));
    }

    #[test]
    fn without_a_worker_one_probe_per_interval_is_admitted() {
        let (mut admission, mut now) = with_probe_due();
        for _ in 0..3 {
            assert_eq!(admission.admit(0, now), Ok(true));
            for _ in 0..2 * REFUSED_PER_PROBE {
                assert_eq!(admission.admit(0, now), Err(GatewayError::NoWorker));
            }
            now += PROBE_INTERVAL;
        }
        admission.set_no_worker(false, now);
        assert_eq!(admission.admit(0, now), Ok(false));
    }

    #[test]
    fn no_probe_before_enough_requests_were_refused() {
        let (mut admission, start) = (admission(), Instant::now());
        admission.set_no_worker(true, start);
        let later = start + 10 * PROBE_INTERVAL;
        for _ in 0..REFUSED_PER_PROBE {
            assert_eq!(admission.admit(0, later), Err(GatewayError::NoWorker));
        }
        assert_eq!(admission.admit(0, later), Ok(true));
    }

    #[test]
    fn a_request_refused_as_full_does_not_use_up_the_probe() {
        let (mut admission, now) = with_probe_due();
        assert_eq!(admission.admit(MAX_IN_FLIGHT, now), Err(GatewayError::Full));
        assert_eq!(admission.admit(0, now), Ok(true));
    }

    #[test]
    fn a_request_refused_as_overloaded_does_not_use_up_the_probe() {
        let (mut admission, mut now) = with_probe_due();
        admission.max_in_flight = usize::MAX;
        admission.replied(1, Duration::from_millis(1), now);
        for _ in 0..10 {
            now += Duration::from_secs(1);
            admission.replied(1, REPLY_TIMEOUT, now);
        }
        assert_eq!(admission.admit(1_000, now), Err(GatewayError::Overloaded));
        assert_eq!(admission.admit(0, now), Ok(true));
    }

    #[test]
    fn a_check_does_not_use_up_the_probe() {
        let (mut admission, now) = with_probe_due();
        assert_eq!(admission.check(0, now), Ok(()));
        assert_eq!(admission.admit(0, now), Ok(true));
        assert_eq!(admission.check(0, now), Err(GatewayError::NoWorker));
    }

    #[test]
    fn a_returned_probe_is_the_next_request() {
        let (mut admission, now) = with_probe_due();
        assert_eq!(admission.admit(0, now), Ok(true));
        admission.return_probe(now);
        assert_eq!(admission.admit(0, now), Ok(true));
        assert_eq!(admission.admit(0, now), Err(GatewayError::NoWorker));
    }
}
