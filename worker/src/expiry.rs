//! How old requests are, although the gateways' clocks are not ours.
//!
//! The difference between our clock and a record's timestamp is the record's age plus the difference of the two clocks. The
//! windowed_min difference seen from a gateway of late, while its requests are read as they come, is taken for that of the
//! clocks. Until one was seen nothing is old; and nothing is older than the time since the end of the log was reached last, whatever the
//! clocks say.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use shared::windowed_min::WindowedMin;
use tokio::time::Instant;

const PERIOD: Duration = Duration::from_secs(30);

/// Gateways that are remembered; any client can make up any number.
const MAX_GATEWAYS: usize = 1024;

/// The gateways' clocks. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clocks {
    gateways: Arc<Mutex<Differences>>,
}

/// By the gateway's id: the windowed_min difference of late in milliseconds, since clocks drift, and are set.
type Differences = HashMap<Box<[u8]>, WindowedMin<i64>>;

/// How old the records of one partition can be.
#[derive(Debug, Default)]
pub(crate) struct Freshness {
    /// When the batch was asked for that reached the end of the log last.
    at_end: Option<Instant>,
    /// The same of those before the newest batch: none of that was in the log by then.
    newer_than: Option<Instant>,
}

// === impl Clocks ===

impl Clocks {
    /// A request that was read at the end of the log: our clock was ahead of its timestamp by `difference_ms`.
    pub(crate) fn saw(&self, gateway: &[u8], difference_ms: i64, now: Instant) {
        let mut gateways = self.gateways.lock();
        if let Some(windowed_min) = gateways.get_mut(gateway) {
            windowed_min.observe(difference_ms, now);
            return;
        }
        if gateways.len() >= MAX_GATEWAYS {
            gateways.retain(|_, windowed_min| windowed_min.is_recent(now));
        }
        if gateways.len() < MAX_GATEWAYS {
            gateways.insert(gateway.into(), WindowedMin::new(PERIOD, difference_ms, now));
        }
    }

    /// How old a request is, as far as the clocks tell: whoever was not seen of late may have set its clock since.
    pub(crate) fn age(&self, gateway: &[u8], difference_ms: i64, now: Instant) -> Duration {
        let gateways = self.gateways.lock();
        let Some(windowed_min) = gateways
            .get(gateway)
            .filter(|it| it.is_recent(now))
            .map(WindowedMin::get)
        else {
            return Duration::ZERO;
        };
        let age = difference_ms.saturating_sub(windowed_min);
        Duration::from_millis(u64::try_from(age).unwrap_or(0))
    }
}

// === impl Freshness ===

impl Freshness {
    /// A batch was read, up to what was the end of the log at some time since it was asked for, or not.
    pub(crate) fn read(&mut self, to_end: bool, asked: Instant) {
        self.newer_than = self.at_end;
        if to_end {
            self.at_end = Some(asked);
        }
    }

    /// How old a record of the newest batch can be at most.
    pub(crate) fn limit(&self, now: Instant) -> Duration {
        self.newer_than.map_or(Duration::MAX, |it| now - it)
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
        let clocks = Clocks::default();
        clocks.saw(b"other", 0, Instant::now());
        assert_eq!(clocks.age(b"g", HOUR_MS, Instant::now()), Duration::ZERO);
    }

    #[test]
    fn clocks_that_are_hours_apart_do_not_matter() {
        for apart in [-HOUR_MS, 0, HOUR_MS] {
            let clocks = Clocks::default();
            let now = Instant::now();
            clocks.saw(b"g", apart + 5, now);
            clocks.saw(b"g", apart + 2, now);
            assert_eq!(clocks.age(b"g", apart + 2 + 15_000, now), seconds(15));
            assert_eq!(clocks.age(b"g", apart, now), Duration::ZERO);
        }
    }

    #[test]
    fn nothing_is_older_than_the_time_since_the_end_was_reached_before() {
        let mut freshness = Freshness::default();
        let now = Instant::now();
        freshness.read(true, now);
        assert_eq!(
            freshness.limit(now),
            Duration::MAX,
            "it may have been in the log for long"
        );
        freshness.read(true, now + seconds(1));
        assert_eq!(freshness.limit(now + seconds(2)), seconds(2));
        freshness.read(false, now + seconds(5));
        freshness.read(false, now + seconds(6));
        assert_eq!(
            freshness.limit(now + seconds(7)),
            seconds(6),
            "since the end was reached last"
        );
    }

    #[test]
    fn the_smallest_difference_is_forgotten_in_time() {
        let clocks = Clocks::default();
        let mut now = Instant::now();
        clocks.saw(b"g", 0, now);
        for _ in 0..2 {
            now += PERIOD;
            clocks.saw(b"g", 5_000, now);
        }
        assert_eq!(clocks.age(b"g", 6_000, now), seconds(1));
        // It was not seen for so long that its clock may say anything by now.
        assert_eq!(clocks.age(b"g", HOUR_MS, now + 2 * PERIOD), Duration::ZERO);
    }

    #[test]
    fn made_up_gateways_are_bounded_and_make_room_in_time() {
        let clocks = Clocks::default();
        let now = Instant::now();
        for number in 0..2 * MAX_GATEWAYS {
            clocks.saw(number.to_string().as_bytes(), 0, now);
        }
        assert_eq!(clocks.gateways.lock().len(), MAX_GATEWAYS);
        clocks.saw(b"g", 0, now + 2 * PERIOD);
        assert_eq!(clocks.gateways.lock().len(), 1);
    }
}
