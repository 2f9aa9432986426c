//! What became of the requests that are over: a bounded memory, to tell a late or a second reply from a foreign one.
//!
//! Where a gateway has a reply partition of its own such replies are rare. So an end is only appended to a list, and put into
//! the table when one comes: in a table of that size each request would touch a place that no cache has. Where gateways
//! share a partition, foreign replies see to it that each end goes into the table soon.

use std::mem;

use uuid::Uuid;

use crate::ids::{Half, IdSet};

/// How many are remembered at least; twice as many at most, and what is older is as foreign as what never was.
const CAPACITY: usize = 65_536;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With its reply.
    Answered,
    /// Without: its caller was told something else.
    GaveUp,
    /// Without: its caller left.
    Left,
}

/// The requests that ended last, in two generations: the older one goes as a whole.
#[derive(Debug, Default)]
pub(crate) struct EndedRequests {
    younger: Generation,
    older: Generation,
}

/// Requests that ended one after the other. Each part takes all its limit at once, the table with the first route: what
/// grows in steps leaves gaps in the memory, and a table that grows holds up everybody.
#[derive(Debug)]
struct Generation {
    ended: Vec<Half>,
    /// The first of them: as many as there were when somebody last asked. (Should two halves be the same it has one less, and
    /// the last one is put in twice, which does no harm.)
    index: IdSet,
}

// === impl EndedRequests ===

impl EndedRequests {
    /// A request is over. Each id comes once.
    pub(crate) fn remember(&mut self, id: Uuid, end: End) {
        if self.younger.ended.len() == CAPACITY {
            mem::swap(&mut self.younger, &mut self.older);
            self.younger.clear();
        }
        self.younger.ended.push(note(id, end));
    }

    /// How a request ended, if it is one of ours and not long ago.
    pub(crate) fn end(&mut self, id: Uuid) -> Option<End> {
        let ends = [End::Answered, End::GaveUp, End::Left];
        [&mut self.younger, &mut self.older]
            .into_iter()
            .find_map(|it| ends.into_iter().find(|end| it.has(note(id, *end))))
    }
}

/// An end, as it is kept.
fn note(id: Uuid, end: End) -> Half {
    let half = Half::from(id);
    match end {
        End::Answered => half,
        End::GaveUp => half.marked(0),
        End::Left => half.marked(1),
    }
}

// === impl Generation ===

impl Generation {
    fn has(&mut self, note: Half) -> bool {
        let ended = self.ended.get(self.index.len()..).unwrap_or_default();
        self.index.reserve(CAPACITY - self.index.len());
        self.index.extend(ended);
        self.index.contains(&note)
    }

    /// Forgets all and keeps the limit.
    fn clear(&mut self) {
        self.ended.clear();
        self.index.clear();
    }
}

impl Default for Generation {
    fn default() -> Self {
        Self {
            ended: Vec::with_capacity(CAPACITY),
            index: IdSet::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_remembered_and_no_more() {
        let mut ended = EndedRequests::default();
        let id = |number: usize| Uuid::from_u128(u128::try_from(number).unwrap());
        for number in 0..3 * CAPACITY + 10 {
            let end = [End::Answered, End::GaveUp, End::Left][number % 3];
            ended.remember(id(number), end);
            // Now and then somebody asks, so that there is a table when its generation goes.
            if number % (CAPACITY / 2) == 7 {
                assert_eq!(ended.end(id(number)), Some(end));
            }
        }
        assert_eq!(ended.end(id(2 * CAPACITY - 1)), None);
        for (number, end) in [
            (2 * CAPACITY, End::Left),
            (2 * CAPACITY + 1, End::Answered),
            (3 * CAPACITY + 1, End::GaveUp),
        ] {
            assert_eq!(ended.end(id(number)), Some(end), "{number}");
        }
        assert_eq!(
            [&ended.younger, &ended.older].map(|it| (it.ended.len(), it.index.len())),
            [(10, 10), (CAPACITY, CAPACITY)]
        );
    }

    #[test]
    fn nothing_grows_in_steps() {
        let mut generation = Generation::default();
        let id = || note(Uuid::new_v4(), End::Answered);
        assert!(!generation.has(id()));
        let limit = |it: &Generation| (it.ended.capacity(), it.index.capacity());
        let at_first = limit(&generation);
        for _ in 0..CAPACITY {
            generation.ended.push(id());
        }
        assert!(!generation.has(id()));
        assert_eq!(limit(&generation), at_first);
    }

    #[test]
    fn what_ends_after_a_question_is_found_by_the_next() {
        let mut ended = EndedRequests::default();
        let [first, second] = [Uuid::new_v4(), Uuid::new_v4()];
        ended.remember(first, End::Answered);
        assert_eq!(ended.end(second), None);
        ended.remember(second, End::GaveUp);
        assert_eq!(ended.end(second), Some(End::GaveUp));
        assert_eq!(ended.end(first), Some(End::Answered));
    }
}
