//! How far a partition's requests are done.
//!
//! - The position is the lowest offset that is not done: whoever begins there leaves no request out. The connections acknowledge
//!   out of order, so what is done behind it is remembered.
//! - Done is a request whose reply Kafka has or will never take, and one that is skipped and counted.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// How far one partition is.
#[derive(Debug, Default)]
pub struct OffsetTracker {
    state: Mutex<State>,
    /// The state has changed in a way that somebody may wait for.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// What was read from the position on, in the order of tracker.
    open: VecDeque<Request>,
    /// Behind the last offset that was read; `None` before the start is fixed.
    end: Option<i64>,
    /// The position that Kafka has.
    saved: Option<i64>,
    /// Kafka was told the start, or at least asked to keep it.
    start_offered: bool,
    /// Which log it is.
    generation: u32,
}

#[derive(Debug)]
struct Request {
    offset: i64,
    done: bool,
}

/// A request on its way. Dropped without [`InFlightOffset::done`], it stays undone.
#[derive(Debug)]
pub struct InFlightOffset {
    tracker: Arc<OffsetTracker>,
    generation: u32,
    offset: i64,
}

// === impl OffsetTracker ===

impl OffsetTracker {
    /// These were read, and now everything below `end` is.
    pub fn read(&self, offsets: impl Iterator<Item = i64>, end: i64) {
        let mut state = self.state.lock();
        if state.end.is_some_and(|it| end < it) {
            // Another log: what was open is in none any more.
            state.open.clear();
            state.saved = None;
            state.generation += 1;
        }
        state.open.extend(offsets.map(|offset| Request { offset, done: false }));
        state.end = Some(end);
        drop(state);
        self.changed.notify_waiters();
    }

    /// One of those that were read.
    pub fn open(self: &Arc<Self>, offset: i64) -> InFlightOffset {
        InFlightOffset {
            tracker: Arc::clone(self),
            generation: self.state.lock().generation,
            offset,
        }
    }

    /// The lowest offset that is not done, unless Kafka has it already.
    pub fn unsaved(&self) -> Option<i64> {
        let state = self.state.lock();
        state.position().filter(|position| state.saved != Some(*position))
    }

    /// Kafka has this position.
    pub fn saved(&self, position: i64) {
        self.state.lock().saved = Some(position);
    }

    /// Kafka is to be told again.
    pub fn renew(&self) {
        self.state.lock().saved = None;
    }

    /// Kafka has the start, or will not take it now.
    pub fn start_offered(&self) {
        self.state.lock().start_offered = true;
        self.changed.notify_waiters();
    }

    /// Whether it was: from then on requests are read.
    pub fn is_start_offered(&self) -> bool {
        self.state.lock().start_offered
    }

    /// Waits for that.
    pub async fn until_start_offered(&self) {
        self.until(|state| state.start_offered).await;
    }

    /// Waits until everything that was read is done.
    pub async fn until_all_done(&self) {
        self.until(|state| state.open.is_empty()).await;
    }

    async fn until(&self, health_check: impl Fn(&State) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Registered before the look, so that no change falls in between.
            changed.as_mut().enable();
            if health_check(&self.state.lock()) {
                return;
            }
            changed.await;
        }
    }
}

// === impl State ===

impl State {
    fn position(&self) -> Option<i64> {
        self.open.front().map(|it| it.offset).or(self.end)
    }
}

// === impl InFlightOffset ===

impl InFlightOffset {
    /// The request is answered, or skipped and counted.
    pub fn done(self) {
        let mut state = self.tracker.state.lock();
        if state.generation != self.generation {
            return;
        }
        let found = state.open.binary_search_by_key(&self.offset, |it| it.offset);
        if let Some(request) = found.ok().and_then(|index| state.open.get_mut(index)) {
            request.done = true;
        }
        while state.open.front().is_some_and(|it| it.done) {
            state.open.pop_front();
        }
        let all_done = state.open.is_empty();
        drop(state);
        if all_done {
            self.tracker.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_position_is_the_lowest_offset_that_is_not_done() {
        let tracker = Arc::new(OffsetTracker::default());
        assert_eq!(tracker.unsaved(), None, "the start is not fixed");
        tracker.read([].into_iter(), 5);
        assert_eq!(tracker.unsaved(), Some(5));
        tracker.saved(5);
        assert_eq!(tracker.unsaved(), None);
        // 8 was stepped over.
        tracker.read([5, 6, 7, 9].into_iter(), 12);
        assert_eq!(tracker.unsaved(), None, "nothing of it is done");
        for (done, position) in [(6, None), (9, None), (5, Some(7)), (7, Some(12))] {
            tracker.open(done).done();
            assert_eq!(tracker.unsaved(), position, "{done}");
        }
    }

    #[test]
    fn a_request_that_is_dropped_is_not_done() {
        let tracker = Arc::new(OffsetTracker::default());
        tracker.read(0..2, 2);
        drop(tracker.open(0));
        tracker.open(1).done();
        assert_eq!(tracker.unsaved(), Some(0));
    }

    #[test]
    fn another_log_begins_anew() {
        let tracker = Arc::new(OffsetTracker::default());
        tracker.read(7..9, 9);
        let old = [tracker.open(7), tracker.open(8)];
        tracker.read([].into_iter(), 0);
        tracker.saved(0);
        tracker.read(0..9, 9);
        old.into_iter().for_each(InFlightOffset::done);
        assert_eq!(tracker.unsaved(), None);
        (0..9).for_each(|offset| tracker.open(offset).done());
        assert_eq!(tracker.unsaved(), Some(9));
    }

    #[tokio::test]
    async fn whoever_waits_hears_of_the_last_one() {
        let tracker = Arc::new(OffsetTracker::default());
        tracker.until_all_done().await;
        tracker.read(0..2, 2);
        let (first, second) = (tracker.open(0), tracker.open(1));
        second.done();
        tokio::join!(tracker.until_all_done(), async { first.done() });
        assert_eq!(tracker.unsaved(), Some(2));
    }

    proptest! {
        #[test]
        fn in_any_order_nothing_undone_is_passed(
            gaps in prop::collection::vec(1..4_i64, 1..40),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        ) {
            let tracker = Arc::new(OffsetTracker::default());
            let offsets: Vec<i64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
            let end = offsets.last().map_or(0, |it| it + 1);
            tracker.read(offsets.iter().copied(), end);
            let mut undone = offsets;
            for index in order {
                if !undone.is_empty() {
                    tracker.open(undone.remove(index.index(undone.len()))).done();
                }
                prop_assert_eq!(tracker.unsaved(), Some(undone.first().copied().unwrap_or(end)));
            }
        }
    }
}
