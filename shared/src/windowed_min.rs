//! The smallest of the values seen lately, at a constant cost in time and memory.

use std::time::Duration;

use tokio::time::Instant;

/// A sliding-window minimum in two buckets of one period each: a value counts for one to two periods.
#[derive(Debug)]
pub struct WindowedMin<T> {
    period: Duration,
    /// When the current period began.
    since: Instant,
    current: T,
    /// The minimum of the period before.
    previous: Option<T>,
}

// === impl WindowedMin ===

impl<T: Copy + Ord> WindowedMin<T> {
    /// A window with its first value.
    #[must_use]
    pub fn new(period: Duration, value: T, now: Instant) -> Self {
        Self {
            period,
            since: now,
            current: value,
            previous: None,
        }
    }

    /// Adds a value.
    pub fn observe(&mut self, value: T, now: Instant) {
        if now - self.since >= self.period {
            self.previous = self.is_recent(now).then_some(self.current);
            self.current = value;
            self.since = now;
        }
        self.current = self.current.min(value);
    }

    /// The smallest value in the window, as of the last [`WindowedMin::observe`].
    #[must_use]
    pub fn get(&self) -> T {
        self.previous
            .map_or(self.current, |previous| previous.min(self.current))
    }

    /// Whether the current period began less than two periods ago. Older values say nothing about `now`.
    #[must_use]
    pub fn is_recent(&self, now: Instant) -> bool {
        now - self.since < 2 * self.period
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(30);

    #[test]
    fn value_counts_for_one_to_two_periods() {
        let mut now = Instant::now();
        let mut minimum = WindowedMin::new(PERIOD, 3, now);
        minimum.observe(1, now);
        minimum.observe(2, now);
        assert_eq!(minimum.get(), 1);
        now += PERIOD;
        minimum.observe(5, now);
        assert_eq!(minimum.get(), 1);
        now += PERIOD;
        minimum.observe(6, now);
        assert_eq!(minimum.get(), 5);
    }

    #[test]
    fn values_expire_after_two_idle_periods() {
        let now = Instant::now();
        let mut minimum = WindowedMin::new(PERIOD, 1, now);
        assert!(minimum.is_recent(now + 2 * PERIOD - Duration::from_millis(1)));
        assert!(!minimum.is_recent(now + 2 * PERIOD));
        minimum.observe(5, now + 2 * PERIOD);
        assert_eq!(minimum.get(), 5);
    }
}
