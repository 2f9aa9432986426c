//! The adaptive concurrency limit: how many requests to a topic can be in flight so that one more is answered in time.
//!
//! The estimated wait is the number of requests in flight divided by the rate of the replies (Little's law). The limit is
//! where it reaches the timeout of the request, less a margin. The rate shows what the workers
//! can do only while requests queue; at low load there are few replies because there are few requests. So there is no limit
//! until the latency exceeds the recent minimum by so much that a queue must be the cause.
//!
//! A gap between replies longer than a quarter of the longest timeout counts as an outage, such as the restart of a worker. It does not
//! change the measured rate, and ends the limit.

use std::time::Duration;

use shared::windowed_min::WindowedMin;
use tokio::time::Instant;

/// The time constant of the rate's exponential decay.
const RATE_WINDOW: Duration = Duration::from_secs(1);

/// The limit ends when no reply has arrived for this long, or for the longest gap if that is longer.
const MAX_AGE: Duration = Duration::from_secs(1);

/// The queue threshold as a part of the shortest timeout of the topic's routes: latency above the recent minimum that means a queue.
const QUEUE_THRESHOLD: f64 = 0.25;

/// The part of its timeout that a request may spend in the queue. The margin covers the error of the rate.
const USABLE_TIMEOUT: f64 = 0.8;

/// The smallest limit. Without requests there would be no replies to measure.
const MIN_LIMIT: usize = 16;

/// The minimum latency is that of the last one to two of these periods.
const MIN_LATENCY_PERIOD: Duration = Duration::from_secs(30);

/// Measures the replies. Does no I/O, and is told the time.
#[derive(Debug)]
pub(crate) struct AdaptiveLimit {
    queue_threshold: Duration,
    /// A longer time between two replies is an outage.
    max_gap: Duration,
    last_reply: Option<Instant>,
    /// Replies, decaying.
    replies: f64,
    /// The seconds in which they arrived, decaying in the same way.
    seconds: f64,
    /// Of the last reply.
    latency: Duration,
    /// A slow service has a high latency without a queue. `None` before the first reply.
    min_latency: Option<WindowedMin<Duration>>,
}

// === impl AdaptiveLimit ===

impl AdaptiveLimit {
    /// For routes with timeouts between these two.
    pub(crate) fn new(shortest: Duration, longest: Duration) -> Self {
        Self {
            queue_threshold: shortest.mul_f64(QUEUE_THRESHOLD),
            max_gap: longest.mul_f64(QUEUE_THRESHOLD),
            last_reply: None,
            replies: 0.0,
            seconds: 0.0,
            latency: Duration::ZERO,
            min_latency: None,
        }
    }

    /// A batch of `count` replies arrived; the last of them took `latency`.
    pub(crate) fn replied(&mut self, count: u32, latency: Duration, now: Instant) {
        self.latency = latency;
        self.min_latency
            .get_or_insert_with(|| WindowedMin::new(MIN_LATENCY_PERIOD, latency, now))
            .observe(latency, now);
        let gap = self.last_reply.replace(now).map(|last| now - last);
        if let Some(gap) = gap.filter(|gap| *gap <= self.max_gap) {
            let decay = (-gap.as_secs_f64() / RATE_WINDOW.as_secs_f64()).exp();
            self.replies = self.replies * decay + f64::from(count);
            self.seconds = self.seconds * decay + gap.as_secs_f64();
        }
    }

    /// Requests that may be in flight before one with this timeout; [`usize::MAX`] without a queue.
    pub(crate) fn limit(&self, timeout: Duration, now: Instant) -> usize {
        let max_age = MAX_AGE.max(self.max_gap);
        let is_recent = self.last_reply.is_some_and(|last| now - last <= max_age);
        let min_latency = self.min_latency.as_ref().map_or(Duration::MAX, WindowedMin::get);
        let queueing = self.latency.saturating_sub(min_latency);
        if !is_recent || queueing < self.queue_threshold || self.seconds == 0.0 {
            return usize::MAX;
        }
        let limit = self.replies / self.seconds * timeout.as_secs_f64() * USABLE_TIMEOUT;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the cast saturates, and a count is not negative"
        )]
        let limit = limit as usize;
        limit.max(MIN_LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLY_TIMEOUT: Duration = Duration::from_secs(2);

    /// After one reply that took 1 ms.
    fn adaptive_limit(now: Instant) -> AdaptiveLimit {
        let mut adaptive_limit = AdaptiveLimit::new(REPLY_TIMEOUT, REPLY_TIMEOUT);
        adaptive_limit.replied(1, Duration::from_millis(1), now);
        adaptive_limit
    }

    /// Replies at a steady rate, in batches every 10 ms.
    fn steady(
        adaptive_limit: &mut AdaptiveLimit,
        from: Instant,
        rate: u32,
        length: Duration,
        latency: Duration,
    ) -> Instant {
        let mut now = from;
        while now < from + length {
            now += Duration::from_millis(10);
            adaptive_limit.replied(rate / 100, latency, now);
        }
        now
    }

    #[test]
    fn low_rate_at_low_latency_is_not_limited() {
        let now = Instant::now();
        let mut adaptive_limit = adaptive_limit(now);
        assert_eq!(adaptive_limit.limit(REPLY_TIMEOUT, now), usize::MAX);
        let now = steady(&mut adaptive_limit, now, 100, REPLY_TIMEOUT, Duration::from_millis(5));
        assert_eq!(adaptive_limit.limit(REPLY_TIMEOUT, now), usize::MAX);
    }

    #[test]
    fn slow_service_without_a_queue_is_not_limited() {
        let now = Instant::now();
        let mut adaptive_limit = AdaptiveLimit::new(REPLY_TIMEOUT, REPLY_TIMEOUT);
        let now = steady(&mut adaptive_limit, now, 100, REPLY_TIMEOUT, REPLY_TIMEOUT / 2);
        assert_eq!(adaptive_limit.limit(REPLY_TIMEOUT, now), usize::MAX);
    }

    #[test]
    fn queue_limits_requests_to_the_reply_rate() {
        let now = Instant::now();
        let mut adaptive_limit = adaptive_limit(now);
        let now = steady(&mut adaptive_limit, now, 2_000, REPLY_TIMEOUT, REPLY_TIMEOUT / 2);
        // 2,000/s for 80 % of two seconds.
        let limit = adaptive_limit.limit(REPLY_TIMEOUT, now);
        assert!((3_100..=3_300).contains(&limit), "{limit}");
    }

    #[test]
    fn rate_of_large_batches_is_the_same() {
        let mut now = Instant::now();
        let mut adaptive_limit = adaptive_limit(now);
        for _ in 0..10 {
            now += REPLY_TIMEOUT / 5;
            adaptive_limit.replied(800, REPLY_TIMEOUT / 2, now);
        }
        // 2,000/s, as above.
        let limit = adaptive_limit.limit(REPLY_TIMEOUT, now);
        assert!((3_100..=3_300).contains(&limit), "{limit}");
    }

    #[test]
    fn outage_ends_the_limit_and_keeps_the_rate() {
        let now = Instant::now();
        let mut adaptive_limit = adaptive_limit(now);
        let now = steady(&mut adaptive_limit, now, 2_000, REPLY_TIMEOUT, REPLY_TIMEOUT / 2);
        let before = adaptive_limit.limit(REPLY_TIMEOUT, now);
        let later = now + 3 * REPLY_TIMEOUT;
        assert_eq!(adaptive_limit.limit(REPLY_TIMEOUT, later), usize::MAX);
        adaptive_limit.replied(1, REPLY_TIMEOUT, later);
        assert_eq!(adaptive_limit.limit(REPLY_TIMEOUT, later), before);
    }

    #[test]
    fn limit_follows_the_rate_within_seconds() {
        let now = Instant::now();
        let mut adaptive_limit = adaptive_limit(now);
        let now = steady(&mut adaptive_limit, now, 2_000, REPLY_TIMEOUT, REPLY_TIMEOUT / 2);
        let now = steady(&mut adaptive_limit, now, 20_000, 3 * RATE_WINDOW, REPLY_TIMEOUT / 2);
        let limit = adaptive_limit.limit(REPLY_TIMEOUT, now);
        assert!(limit > 28_000, "{limit}");
    }

    #[test]
    fn limit_has_a_minimum() {
        let mut now = Instant::now();
        let mut adaptive_limit = adaptive_limit(now);
        for _ in 0..50 {
            now += Duration::from_millis(200);
            adaptive_limit.replied(1, REPLY_TIMEOUT, now);
        }
        assert_eq!(adaptive_limit.limit(REPLY_TIMEOUT, now), MIN_LIMIT);
    }
}
