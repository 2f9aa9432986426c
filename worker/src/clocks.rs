//! How old requests are, although the gateways' clocks are not ours.
//!
//! The difference between our clock and a record's timestamp is the record's age plus the difference of the two clocks. The
//! smallest difference seen from a gateway while its requests are read as they come is taken for that of the clocks. Until
//! one was seen nothing is old; and nothing is older than the time since the end of the log was reached last, whatever the
//! clocks say.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

/// Smallest differences are kept for one to two of these: clocks drift, and are set.
const PERIOD: Duration = Duration::from_secs(30);

/// Gateways that are remembered; any client can make up any number.
const MAX_GATEWAYS: usize = 1024;

/// The gateways' clocks, seen from one partition.
#[derive(Debug, Default)]
pub(crate) struct Clocks {
    /// By the gateway's id.
    gateways: HashMap<Box<[u8]>, Clock>,
    /// When the end of the log was reached last.
    at_end: Option<Instant>,
    /// When it was reached last before the newest batch was read: none of that was in the log by then.
    newer_than: Option<Instant>,
}

/// Differences in milliseconds.
#[derive(Debug)]
struct Clock {
    since: Instant,
    smallest: i64,
    /// In the period before.
    before: Option<i64>,
}

// === impl Clocks ===

impl Clocks {
    /// A batch was read, up to the end of the log or not.
    pub(crate) fn read(&mut self, to_end: bool, now: Instant) {
        self.newer_than = self.at_end;
        if to_end {
            self.at_end = Some(now);
        }
    }

    /// A request that was read at the end of the log: our clock was ahead of its timestamp by `difference_ms`.
    pub(crate) fn saw(&mut self, gateway: &[u8], difference_ms: i64, now: Instant) {
        if let Some(clock) = self.gateways.get_mut(gateway) {
            clock.saw(difference_ms, now);
            return;
        }
        if self.gateways.len() >= MAX_GATEWAYS {
            self.gateways.retain(|_, clock| now - clock.since < 2 * PERIOD);
        }
        if self.gateways.len() < MAX_GATEWAYS {
            let clock = Clock {
                since: now,
                smallest: difference_ms,
                before: None,
            };
            self.gateways.insert(gateway.into(), clock);
        }
    }

    /// How old a request of the newest batch is, as far as can be told.
    pub(crate) fn age(&self, gateway: &[u8], difference_ms: i64, now: Instant) -> Duration {
        let Some(clock) = self.gateways.get(gateway) else {
            return Duration::ZERO;
        };
        let age = difference_ms.saturating_sub(clock.smallest());
        let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
        self.newer_than.map_or(age, |it| age.min(now - it))
    }
}

// === impl Clock ===

impl Clock {
    fn saw(&mut self, difference_ms: i64, now: Instant) {
        if now - self.since >= PERIOD {
            let recent = now - self.since < 2 * PERIOD;
            self.before = recent.then_some(self.smallest);
            self.smallest = difference_ms;
            self.since = now;
        }
        self.smallest = self.smallest.min(difference_ms);
    }

    fn smallest(&self) -> i64 {
        self.before.map_or(self.smallest, |it| it.min(self.smallest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn until_a_gateway_was_seen_nothing_of_it_is_old() {
        let mut clocks = Clocks::default();
        let now = Instant::now();
        clocks.read(true, now);
        clocks.saw(b"other", 0, now);
        assert_eq!(clocks.age(b"g", HOUR_MS, now + seconds(60)), Duration::ZERO);
    }

    #[test]
    fn clocks_that_are_hours_apart_do_not_matter() {
        for apart in [-HOUR_MS, 0, HOUR_MS] {
            let mut clocks = Clocks::default();
            let mut now = Instant::now();
            clocks.read(true, now);
            clocks.saw(b"g", apart + 5, now);
            clocks.saw(b"g", apart + 2, now);
            // The worker was away, and finds what was written meanwhile.
            now += seconds(20);
            clocks.read(false, now);
            assert_eq!(clocks.age(b"g", apart + 2 + 15_000, now), seconds(15));
            assert_eq!(clocks.age(b"g", apart, now), Duration::ZERO);
        }
    }

    #[test]
    fn a_clock_that_is_set_makes_nothing_old_that_just_came() {
        let mut clocks = Clocks::default();
        let now = Instant::now();
        clocks.read(true, now);
        clocks.saw(b"g", -HOUR_MS, now);
        clocks.read(true, now + seconds(1));
        assert_eq!(clocks.age(b"g", 0, now + seconds(1)), seconds(1));
    }

    #[test]
    fn the_smallest_difference_is_forgotten_in_time() {
        let mut clocks = Clocks::default();
        let mut now = Instant::now();
        clocks.saw(b"g", 0, now);
        for _ in 0..2 {
            now += PERIOD;
            clocks.saw(b"g", 5_000, now);
        }
        assert_eq!(clocks.age(b"g", 6_000, now), seconds(1));
    }

    #[test]
    fn made_up_gateways_are_bounded_and_make_room_in_time() {
        let mut clocks = Clocks::default();
        let now = Instant::now();
        for number in 0..2 * MAX_GATEWAYS {
            clocks.saw(number.to_string().as_bytes(), 0, now);
        }
        assert_eq!(clocks.gateways.len(), MAX_GATEWAYS);
        let later = now + 2 * PERIOD;
        clocks.saw(b"g", 0, later);
        assert_eq!(clocks.gateways.len(), 1);
    }
}
