//! The smallest of the values that were seen of late, at a constant cost in time and memory.

use std::time::Duration;

use tokio::time::Instant;

/// A value counts for one to two of these.
pub const PERIOD: Duration = Duration::from_secs(30);

/// The smallest value of late.
#[derive(Debug)]
pub struct WindowedMin<T> {
    /// When the period began.
    since: Instant,
    current: T,
    /// In the period before.
    before: Option<T>,
}

// === impl WindowedMin ===

impl<T: Copy + Ord> WindowedMin<T> {
    /// The first value.
    #[must_use]
    pub fn new(value: T, now: Instant) -> Self {
        Self {
            since: now,
            current: value,
            before: None,
        }
    }

    /// One more value.
    pub fn see(&mut self, value: T, now: Instant) {
        if now - self.since >= PERIOD {
            self.before = self.is_recent(now).then_some(self.current);
            self.current = value;
            self.since = now;
        }
        self.current = self.current.min(value);
    }

    /// The smallest.
    #[must_use]
    pub fn get(&self) -> T {
        self.before.map_or(self.current, |it| it.min(self.current))
    }

    /// Whether any of its values counts still.
    #[must_use]
    pub fn is_recent(&self, now: Instant) -> bool {
        now - self.since < 2 * PERIOD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_for_one_to_two_periods() {
        let mut now = Instant::now();
        let mut windowed_min = WindowedMin::new(3, now);
        windowed_min.see(1, now);
        windowed_min.see(2, now);
        assert_eq!(windowed_min.get(), 1);
        now += PERIOD;
        windowed_min.see(5, now);
        assert_eq!(windowed_min.get(), 1);
        now += PERIOD;
        windowed_min.see(6, now);
        assert_eq!(windowed_min.get(), 5);
    }

    #[test]
    fn after_a_long_silence_only_what_is_new_counts() {
        let now = Instant::now();
        let mut windowed_min = WindowedMin::new(1, now);
        assert!(!windowed_min.is_recent(now + 2 * PERIOD));
        windowed_min.see(5, now + 2 * PERIOD);
        assert_eq!(windowed_min.get(), 5);
    }
}
