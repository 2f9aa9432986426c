//! Tracks which requests of a partition are acknowledged, to find the offset to commit.
//!
//! - The committable offset is the lowest one in flight: a worker that begins there skips no request. Acknowledgements come
//!   out of order. Records that the consumer holds back count as in flight.
//! - A request is acknowledged when its reply has its outcome, or when it was skipped and counted.
//! - A request that is given up, because its handle was dropped, is not waited for any more and never passed.

use std::{collections::BTreeSet, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The requests of a partition that may be in flight. With as many, no further ones are to be fetched.
const MAX_IN_FLIGHT: usize = 10_000;

/// The offsets in flight of one partition.
#[derive(Debug, Default)]
pub struct OffsetTracker {
    state: Mutex<State>,
    /// Everything may be acknowledged, or the start was offered.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Delivered and not acknowledged.
    in_flight: BTreeSet<i64>,
    /// The lowest offset that was given up.
    abandoned_from: Option<i64>,
    /// The lowest offset that the consumer holds back: it is delivered later.
    held_from: Option<i64>,
    /// The offset to fetch next; `None` before the start is fixed.
    end: Option<i64>,
    /// The offset that Kafka has.
    committed: Option<i64>,
    /// Kafka has the start, or an attempt to commit it has failed.
    is_start_offered: bool,
    /// Changes when the log is replaced by another.
    generation: u32,
}

/// A request in flight. Dropped without [`InFlightOffset::ack`], it is given up and never committed.
#[derive(Debug)]
pub struct InFlightOffset {
    tracker: Arc<OffsetTracker>,
    generation: u32,
    offset: i64,
    is_acked: bool,
}

// === impl OffsetTracker ===

impl OffsetTracker {
    /// Adds delivered records. `end` is the offset to fetch next, `held_from` the lowest one that the consumer holds back. An
    /// `end` that goes back means another log: the requests of the old one are forgotten.
    pub fn fetched(&self, offsets: impl Iterator<Item = i64>, end: i64, held_from: Option<i64>) {
        let mut state = self.state.lock();
        if state.end.is_some_and(|previous| end < previous) {
            state.in_flight.clear();
            state.abandoned_from = None;
            state.committed = None;
            state.generation += 1;
        }
        state.in_flight.extend(offsets);
        state.end = Some(end);
        state.held_from = held_from;
        drop(state);
        self.changed.notify_waiters();
    }

    /// The handle of a fetched record.
    pub fn in_flight(self: &Arc<Self>, offset: i64) -> InFlightOffset {
        InFlightOffset {
            tracker: Arc::clone(self),
            generation: self.state.lock().generation,
            offset,
            is_acked: false,
        }
    }

    /// The offset to commit, unless Kafka has it already.
    pub fn committable(&self) -> Option<i64> {
        let state = self.state.lock();
        state.position().filter(|position| state.committed != Some(*position))
    }

    /// Kafka has this offset.
    pub fn committed(&self, offset: i64) {
        self.state.lock().committed = Some(offset);
    }

    /// Makes the offset committable again although it has not changed.
    pub fn recommit(&self) {
        self.state.lock().committed = None;
    }

    /// Reports that Kafka has the start, or that an attempt to commit it has failed.
    pub fn mark_start_offered(&self) {
        self.state.lock().is_start_offered = true;
        self.changed.notify_waiters();
    }

    /// Whether the start was offered to Kafka. Requests are read from then on.
    pub fn is_start_offered(&self) -> bool {
        self.state.lock().is_start_offered
    }

    /// Waits until the start was offered to Kafka.
    pub async fn wait_for_start_offered(&self) {
        self.wait_for(|state| state.is_start_offered).await;
    }

    /// Waits until every fetched request is acknowledged or given up.
    pub async fn wait_for_acks(&self) {
        self.wait_for(|state| state.in_flight.is_empty()).await;
    }

    /// Waits while as many requests are in flight as may be. Records that the consumer holds back do not count.
    pub async fn wait_for_room(&self) {
        self.wait_for(|state| state.in_flight.len() < MAX_IN_FLIGHT).await;
    }

    async fn wait_for(&self, condition: impl Fn(&State) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Registered before the look, so that no change falls in between.
            changed.as_mut().enable();
            if condition(&self.state.lock()) {
                return;
            }
            changed.await;
        }
    }
}

// === impl State ===

impl State {
    fn position(&self) -> Option<i64> {
        let lowest = self.in_flight.first().copied();
        [lowest, self.abandoned_from, self.held_from, self.end]
            .into_iter()
            .flatten()
            .min()
    }
}

// === impl InFlightOffset ===

impl InFlightOffset {
    /// The reply has its outcome, or the request was skipped and counted.
    pub fn ack(mut self) {
        self.is_acked = true;
    }
}

impl Drop for InFlightOffset {
    fn drop(&mut self) {
        let mut state = self.tracker.state.lock();
        if state.generation != self.generation {
            return;
        }
        state.in_flight.remove(&self.offset);
        if !self.is_acked {
            let lowest = state
                .abandoned_from
                .map_or(self.offset, |lowest| lowest.min(self.offset));
            state.abandoned_from = Some(lowest);
        }
        let has_waiters = state.in_flight.is_empty() || state.in_flight.len() + 1 == MAX_IN_FLIGHT;
        drop(state);
        if has_waiters {
            self.tracker.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lowest_unacknowledged_offset_is_committable() {
        let tracker = Arc::new(OffsetTracker::default());
        assert_eq!(tracker.committable(), None, "the start is not fixed");
        tracker.fetched([].into_iter(), 5, None);
        assert_eq!(tracker.committable(), Some(5));
        tracker.committed(5);
        assert_eq!(tracker.committable(), None);
        // 8 is a hole in the log.
        tracker.fetched([5, 6, 7, 9].into_iter(), 12, None);
        assert_eq!(tracker.committable(), None, "nothing is acknowledged");
        for (acked, committable) in [(6, None), (9, None), (5, Some(7)), (7, Some(12))] {
            tracker.in_flight(acked).ack();
            assert_eq!(tracker.committable(), committable, "{acked}");
        }
    }

    #[test]
    fn held_back_offset_is_not_passed() {
        let tracker = Arc::new(OffsetTracker::default());
        tracker.fetched([7, 8].into_iter(), 9, Some(5));
        [7, 8].into_iter().for_each(|offset| tracker.in_flight(offset).ack());
        assert_eq!(tracker.committable(), Some(5));
        // The transaction is committed: its records come after those behind them.
        tracker.fetched([5, 6].into_iter(), 10, None);
        tracker.in_flight(5).ack();
        assert_eq!(tracker.committable(), Some(6));
        tracker.in_flight(6).ack();
        assert_eq!(tracker.committable(), Some(10));
    }

    #[test]
    fn recommit_offers_the_committed_offset_again() {
        let tracker = OffsetTracker::default();
        tracker.fetched([].into_iter(), 5, None);
        tracker.committed(5);
        tracker.recommit();
        assert_eq!(tracker.committable(), Some(5));
    }

    #[tokio::test]
    async fn dropped_request_is_not_waited_for_and_never_passed() {
        let tracker = Arc::new(OffsetTracker::default());
        tracker.fetched(0..3, 3, None);
        tracker.in_flight(0).ack();
        drop(tracker.in_flight(1));
        tracker.in_flight(2).ack();
        tracker.wait_for_acks().await;
        assert_eq!(tracker.committable(), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn full_tracker_has_room_after_one_ack() {
        let is_full = async |tracker: &OffsetTracker| {
            let room = tokio::time::timeout(std::time::Duration::from_secs(1), tracker.wait_for_room());
            room.await.is_err()
        };
        let tracker = Arc::new(OffsetTracker::default());
        let count = i64::try_from(MAX_IN_FLIGHT).unwrap();
        // The offset that is held back does not count.
        tracker.fetched(1..count, count, Some(0));
        assert!(!is_full(&tracker).await);
        tracker.fetched(count..=count, count + 1, Some(0));
        assert!(is_full(&tracker).await);
        // The lowest one is stuck: those behind it make room all the same, and are not passed over.
        tokio::join!(tracker.wait_for_room(), async { tracker.in_flight(count).ack() });
        assert_eq!(tracker.committable(), Some(0));
    }

    #[test]
    fn replaced_log_ignores_acks_of_the_old_one() {
        let tracker = Arc::new(OffsetTracker::default());
        tracker.fetched(7..9, 9, None);
        let old = [tracker.in_flight(7), tracker.in_flight(8)];
        tracker.fetched([].into_iter(), 0, None);
        tracker.committed(0);
        tracker.fetched(0..9, 9, None);
        old.into_iter().for_each(InFlightOffset::ack);
        assert_eq!(tracker.committable(), None);
        (0..9).for_each(|offset| tracker.in_flight(offset).ack());
        assert_eq!(tracker.committable(), Some(9));
    }

    #[tokio::test]
    async fn last_ack_ends_the_wait() {
        let tracker = Arc::new(OffsetTracker::default());
        tracker.wait_for_acks().await;
        tracker.fetched(0..2, 2, None);
        let (first, second) = (tracker.in_flight(0), tracker.in_flight(1));
        second.ack();
        tokio::join!(tracker.wait_for_acks(), async { first.ack() });
        assert_eq!(tracker.committable(), Some(2));
    }

    proptest! {
        #[test]
        fn acks_in_any_order_never_pass_an_unacknowledged_offset(
            gaps in prop::collection::vec(1..4_i64, 1..40),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        ) {
            let tracker = Arc::new(OffsetTracker::default());
            let offsets: Vec<i64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
            let end = offsets.last().map_or(0, |last| last + 1);
            tracker.fetched(offsets.iter().copied(), end, None);
            let mut unacked = offsets;
            for index in order {
                if !unacked.is_empty() {
                    tracker.in_flight(unacked.remove(index.index(unacked.len()))).ack();
                }
                prop_assert_eq!(tracker.committable(), Some(unacked.first().copied().unwrap_or(end)));
            }
        }
    }
}
