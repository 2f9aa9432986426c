//! How fast replies come, and so how many callers can be served in time.
//!
//! A caller who would wait in vain is better told at once. But the rate of the replies says what the workers *can* do only
//! while they are behind; a quiet gateway's replies are few because its requests are. So the rate bounds nothing until
//! replies take so much longer than the fastest of late that a queue must be the cause.
//!
//! A long pause without replies is not slowness: a worker that is restarted takes up the queue where it was. Nothing is learned
//! from it, and what was learned before bounds nothing any more.

use std::time::Duration;

use shared::windowed_min::WindowedMin;
use tokio::time::Instant;

/// How far back the rate looks; what is older weighs less and less.
const WINDOW: Duration = Duration::from_secs(1);

/// The verdict of a queue is as old as this at most, or as a pause.
const VALID: Duration = Duration::from_secs(1);

/// Of a caller's reply_timeout, the part that a reply must have taken longer than the fastest to be the sign of a queue. Longer
/// gaps between replies are pauses.
const QUEUING: f64 = 0.25;

/// Of a caller's reply_timeout, the part that may be spent in the queue: the rate is an estimate.
const USABLE: f64 = 0.8;

/// So many callers are let in however slow the replies are: without callers there would be no more replies to learn from.
const MIN_LIMIT: usize = 16;

/// The fastest reply counts for one to two of these periods.
const FASTEST_PERIOD: Duration = Duration::from_secs(30);

/// Watches the replies.
#[derive(Debug)]
pub(crate) struct AdaptiveLimit {
    reply_timeout: Duration,
    /// The part of it that is the sign of a queue.
    queuing: Duration,
    last: Option<Instant>,
    /// Replies, and the seconds they took, both decaying.
    replies: f64,
    seconds: f64,
    /// How long the last of them was waited for.
    waited: Duration,
    /// The shortest wait of late: what is slow by nature is no queue. `None` before the first reply.
    fastest: Option<WindowedMin<Duration>>,
}

// === impl AdaptiveLimit ===

impl AdaptiveLimit {
    /// For callers who wait for `reply_timeout`.
    pub(crate) fn new(reply_timeout: Duration) -> Self {
        Self {
            reply_timeout,
            queuing: reply_timeout.mul_f64(QUEUING),
            last: None,
            replies: 0.0,
            seconds: 0.0,
            waited: Duration::ZERO,
            fastest: None,
        }
    }

    /// A batch of replies came, to callers the last of whom had waited for so long.
    pub(crate) fn replied(&mut self, count: u32, waited: Duration, now: Instant) {
        self.waited = waited;
        self.fastest
            .get_or_insert_with(|| WindowedMin::new(FASTEST_PERIOD, waited, now))
            .observe(waited, now);
        let gap = self.last.replace(now).map(|last| now - last);
        if let Some(gap) = gap.filter(|it| *it <= self.queuing) {
            let decay = (-gap.as_secs_f64() / WINDOW.as_secs_f64()).exp();
            self.replies = self.replies * decay + f64::from(count);
            self.seconds = self.seconds * decay + gap.as_secs_f64();
        }
    }

    /// How many callers can be served in time.
    pub(crate) fn limit(&self, now: Instant) -> usize {
        let recent = self.last.is_some_and(|last| now - last <= VALID.max(self.queuing));
        let fastest = self.fastest.as_ref().map_or(Duration::MAX, WindowedMin::get);
        let queued = self.waited.saturating_sub(fastest);
        if !recent || queued < self.queuing || self.seconds == 0.0 {
            return usize::MAX;
        }
        let limit = self.replies / self.seconds * self.reply_timeout.as_secs_f64() * USABLE;
        // A float is cut to the range of the integer.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a count")]
        let limit = limit as usize;
        limit.max(MIN_LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLY_TIMEOUT: Duration = Duration::from_secs(2);

    /// A adaptive_limit whose replies were fast at first.
    fn adaptive_limit(now: Instant) -> AdaptiveLimit {
        let mut adaptive_limit = AdaptiveLimit::new(REPLY_TIMEOUT);
        adaptive_limit.replied(1, Duration::from_millis(1), now);
        adaptive_limit
    }

    /// Replies at a steady rate, in batches every 10 ms.
    fn steady(
        adaptive_limit: &mut AdaptiveLimit,
        from: Instant,
        rate: u32,
        length: Duration,
        waited: Duration,
    ) -> Instant {
        let mut now = from;
        while now < from + length {
            now += Duration::from_millis(10);
            adaptive_limit.replied(rate / 100, waited, now);
        }
        now
    }

    #[test]
    fn slow_replies_bound_nothing_while_they_come_soon() {
        let now = Instant::now();
        let mut adaptive_limit = adaptive_limit(now);
        assert_eq!(adaptive_limit.limit(now), usize::MAX);
        let now = steady(&mut adaptive_limit, now, 100, REPLY_TIMEOUT, Duration::from_millis(5));
        assert_eq!(adaptive_limit.limit(now), usize::MAX);
    }

    #[test]
    fn what_is_slow_by_nature_is_no_queue() {
        let now = Instant::now();
        let mut adaptive_limit = AdaptiveLimit::new(REPLY_TIMEOUT);
        let now = steady(&mut adaptive_limit, now, 100, REPLY_TIMEOUT, REPLY_TIMEOUT / 2);
        assert_eq!(adaptive_limit.limit(now), usize::MAX);
    }

    #[test]
    fn late_replies_bound_the_callers_to_what_can_be_served() {
        let now = Instant::now();
        let mut adaptive_limit = adaptive_limit(now);
        let now = steady(&mut adaptive_limit, now, 2_000, REPLY_TIMEOUT, REPLY_TIMEOUT / 2);
        // 2,000/s for 80 % of two seconds.
        let limit = adaptive_limit.limit(now);
        assert!((3_100..=3_300).contains(&limit), "{limit}");
    }

    #[test]
    fn replies_may_come_in_batches() {
        let mut now = Instant::now();
        let mut adaptive_limit = adaptive_limit(now);
        for _ in 0..10 {
            now += REPLY_TIMEOUT / 5;
            adaptive_limit.replied(800, REPLY_TIMEOUT / 2, now);
        }
        // 2,000/s, as above.
        let limit = adaptive_limit.limit(now);
        assert!((3_100..=3_300).contains(&limit), "{limit}");
    }

    #[test]
    fn a_pause_teaches_nothing_and_ends_the_verdict() {
        let now = Instant::now();
        let mut adaptive_limit = adaptive_limit(now);
        let now = steady(&mut adaptive_limit, now, 2_000, REPLY_TIMEOUT, REPLY_TIMEOUT / 2);
        let before = adaptive_limit.limit(now);
        let later = now + 3 * REPLY_TIMEOUT;
        assert_eq!(adaptive_limit.limit(later), usize::MAX);
        adaptive_limit.replied(1, REPLY_TIMEOUT, later);
        assert_eq!(adaptive_limit.limit(later), before);
    }

    #[test]
    fn a_change_is_learned_within_seconds() {
        let now = Instant::now();
        let mut adaptive_limit = adaptive_limit(now);
        let now = steady(&mut adaptive_limit, now, 2_000, REPLY_TIMEOUT, REPLY_TIMEOUT / 2);
        let now = steady(&mut adaptive_limit, now, 20_000, 3 * WINDOW, REPLY_TIMEOUT / 2);
        let limit = adaptive_limit.limit(now);
        assert!(limit > 28_000, "{limit}");
    }

    #[test]
    fn a_few_are_always_let_in() {
        let mut now = Instant::now();
        let mut adaptive_limit = adaptive_limit(now);
        for _ in 0..50 {
            now += Duration::from_millis(200);
            adaptive_limit.replied(1, REPLY_TIMEOUT, now);
        }
        assert_eq!(adaptive_limit.limit(now), MIN_LIMIT);
    }
}
