//! Decides which requests have expired, so that a worker with a backlog skips them.
//!
//! A request expires when its record is older than its time left ([`Deadline::left`]). Gateway and worker clocks may
//! differ by hours (clock skew), so a record's age is known only roughly. A request expires when both hold:
//!
//! - Wall clocks: `now - timestamp` exceeds the time left by more than a margin. The estimate of the skew is the smallest
//!   `now - timestamp` seen at the end of the partition in the last 10 to 20 minutes, because records there are new.
//!   The margin is the skew or 1 s, whichever is larger. A negative skew (the gateway's clock is ahead) is added to 1 s:
//!   without it, requests of a gateway one hour ahead would expire one hour late.
//! - Monotonic clock ([`Freshness`]): the worker was at the end of the partition longer ago than the time left. A record
//!   that was appended since then is not older than that.
//!
//! Nothing expires before a request was seen at the end of the partition, nor once the estimate is out of date.
//!
//! There is one estimate per partition, so the gateways that write to it need clocks within 1 s of each other. With a
//! larger difference, requests of the gateway that is behind can expire early, but only while the worker's backlog is
//! older than their time left. The same holds for up to 20 minutes after a gateway's clock was set back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kafka::{ConsumedRecord, ConsumerRecords, TopicPartition};
use shared::{headers::Deadline, windowed_min::WindowedMin};
use tokio::time::Instant;
use tracing::warn;

/// The smallest margin, in milliseconds. Clocks kept by NTP differ by less.
const MIN_MARGIN_MS: i64 = 1_000;

/// A difference counts for one to two of these periods.
const SKEW_PERIOD: Duration = Duration::from_mins(10);

/// The expiry rule of one partition.
#[derive(Debug)]
pub(crate) struct Expiry {
    partition: TopicPartition,
    freshness: Freshness,
    skew: ClockSkew,
    /// When the newest batch was observed: by the monotonic clock, and by the wall clock in milliseconds since 1970.
    observed: Option<(Instant, i64)>,
}

/// Whether the caller of a request still waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remaining {
    /// The caller has given up.
    Expired,
    /// The caller waits until about this time. It may be too late by the clock skew, and never too early by more.
    Until(Instant),
    /// The request names no deadline.
    Unknown,
}

/// Bounds the age of the records of the newest batch by the monotonic clock.
#[derive(Debug, Default)]
struct Freshness {
    /// When the last fetch that reached the end of the partition was sent.
    at_end: Option<Instant>,
    /// The same without the newest batch: its records were appended later.
    appended_since: Option<Instant>,
}

/// Estimates how far this host's clock is ahead of the gateways' clocks, in milliseconds.
#[derive(Debug, Default)]
struct ClockSkew {
    smallest_ms: Option<WindowedMin<i64>>,
    /// The difference in the last log line; 0 while there is nothing to report.
    logged_ms: i64,
}

// === impl Expiry ===

impl Expiry {
    pub(crate) fn new(partition: TopicPartition) -> Self {
        Self {
            partition,
            freshness: Freshness::default(),
            skew: ClockSkew::default(),
            observed: None,
        }
    }

    /// Learns from a batch. Call it before [`Expiry::remaining`] for the records of this batch.
    pub(crate) fn observe(&mut self, batch: &ConsumerRecords) {
        let (now, now_ms) = (Instant::now(), unix_time_ms());
        let requests = batch
            .records
            .iter()
            .filter(|record| Deadline::from_headers(record.headers()).is_some());
        let differences_ms = requests.map(|record| now_ms.saturating_sub(record.timestamp_ms()));
        self.observe_at(now, batch.at_end, batch.requested_at, differences_ms);
        self.observed = Some((now, now_ms));
        if let Some(difference_ms) = self.skew.take_change(self.freshness.max_age(now)) {
            warn!(partition = %self.partition, difference_ms, "clock skew");
        }
    }

    fn observe_at(
        &mut self,
        now: Instant,
        at_end: bool,
        requested_at: Instant,
        differences_ms: impl Iterator<Item = i64>,
    ) {
        self.freshness.observe(at_end, requested_at);
        if at_end {
            differences_ms.for_each(|difference_ms| self.skew.observe(difference_ms, now));
        }
    }

    /// Whether the caller of a request of the newest batch has given up, or how long it still waits.
    pub(crate) fn remaining(&self, record: &ConsumedRecord) -> Remaining {
        let Some(deadline) = Deadline::from_headers(record.headers()) else {
            return Remaining::Unknown;
        };
        let difference_ms = || unix_time_ms().saturating_sub(record.timestamp_ms());
        if self.is_expired_at(Instant::now(), deadline.left, difference_ms) {
            return Remaining::Expired;
        }
        let Some((now, now_ms)) = self.observed else {
            return Remaining::Until(Instant::now() + deadline.left);
        };
        let difference_ms = now_ms.saturating_sub(record.timestamp_ms());
        Remaining::Until(now + deadline.left.saturating_sub(self.age(now, difference_ms)))
    }

    /// The age of a record of the newest batch, estimated; 0 while the clock skew is unknown.
    fn age(&self, now: Instant, difference_ms: i64) -> Duration {
        let skew_ms = self.skew.smallest_ms(now).unwrap_or(difference_ms);
        let age_ms = u64::try_from(difference_ms.saturating_sub(skew_ms)).unwrap_or(0);
        Duration::from_millis(age_ms).min(self.freshness.max_age(now))
    }

    fn is_expired_at(&self, now: Instant, left: Duration, difference_ms: impl FnOnce() -> i64) -> bool {
        // The cheap check comes first: it is all that new records need.
        if self.freshness.max_age(now) <= left {
            return false;
        }
        let left_ms = i64::try_from(left.as_millis()).unwrap_or(i64::MAX);
        self.skew
            .margin_ms(now)
            .is_some_and(|margin_ms| difference_ms().saturating_sub(margin_ms) > left_ms)
    }
}

// === impl Freshness ===

impl Freshness {
    /// A batch was fetched. `at_end`: it reached the end of the partition at or after `requested_at`.
    fn observe(&mut self, at_end: bool, requested_at: Instant) {
        self.appended_since = self.at_end;
        if at_end {
            self.at_end = Some(requested_at);
        }
    }

    /// The largest possible age of a record of the newest batch.
    fn max_age(&self, now: Instant) -> Duration {
        self.appended_since.map_or(Duration::MAX, |since| now - since)
    }
}

// === impl ClockSkew ===

impl ClockSkew {
    /// A request was read at the end of the partition; this host's clock was ahead of its timestamp by `difference_ms`.
    fn observe(&mut self, difference_ms: i64, now: Instant) {
        self.smallest_ms
            .get_or_insert_with(|| WindowedMin::new(SKEW_PERIOD, difference_ms, now))
            .observe(difference_ms, now);
    }

    /// The estimate; `None` while it is unknown.
    fn smallest_ms(&self, now: Instant) -> Option<i64> {
        let smallest_ms = self.smallest_ms.as_ref().filter(|smallest| smallest.is_recent(now))?;
        Some(smallest_ms.get())
    }

    /// By how much `now - timestamp` has to exceed the time left; `None` while the skew is unknown.
    fn margin_ms(&self, now: Instant) -> Option<i64> {
        let skew_ms = self.smallest_ms(now)?;
        Some(skew_ms.max(skew_ms.min(0).saturating_add(MIN_MARGIN_MS)))
    }

    /// The difference to log: above 1 s, and changed by 1 s since the last line. A difference up to `max_age`, the
    /// largest age of the newest batch, may be the records' age instead.
    fn take_change(&mut self, max_age: Duration) -> Option<i64> {
        let difference_ms = self.smallest_ms.as_ref()?.get();
        let max_age_ms = i64::try_from(max_age.as_millis()).unwrap_or(i64::MAX);
        if difference_ms.saturating_abs() <= MIN_MARGIN_MS {
            self.logged_ms = 0;
            return None;
        }
        let is_change = difference_ms.saturating_sub(self.logged_ms).saturating_abs() > MIN_MARGIN_MS;
        let is_skew = difference_ms < 0 || difference_ms > max_age_ms;
        (is_change && is_skew).then(|| {
            self.logged_ms = difference_ms;
            difference_ms
        })
    }
}

/// The wall clock in the unit of Kafka's timestamps.
fn unix_time_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
