//! What became of the requests that are over: a bounded memory, to tell a late or a second reply from a foreign one.

use std::mem;

use uuid::Uuid;

use crate::ids::IdSet;

/// How many are remembered at least; twice as many at most, and what is older is as foreign as what never was.
const CAPACITY: usize = 65_536;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With its reply.
    Answered,
    /// Without: its caller left, or was told something else.
    GaveUp,
}

/// The requests that ended last, in two generations: the older one goes as a whole.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    younger: Generation,
    older: Generation,
}

#[derive(Debug, Default)]
struct Generation {
    answered: IdSet,
    gave_up: IdSet,
}

// === impl Finished ===

impl Finished {
    /// A request is over. Each id comes once.
    pub(crate) fn remember(&mut self, id: Uuid, end: End) {
        if self.younger.len() == CAPACITY {
            mem::swap(&mut self.younger, &mut self.older);
            self.younger.clear();
        }
        self.younger.insert(id, end);
    }

    /// How a request ended, if it is one of ours and not long ago.
    pub(crate) fn end(&self, id: Uuid) -> Option<End> {
        self.younger.end(id).or_else(|| self.older.end(id))
    }
}

// === impl Generation ===

impl Generation {
    fn insert(&mut self, id: Uuid, end: End) {
        match end {
            End::Answered => self.answered.insert(id),
            End::GaveUp => self.gave_up.insert(id),
        }
    }

    fn end(&self, id: Uuid) -> Option<End> {
        if self.answered.contains(id) {
            return Some(End::Answered);
        }
        self.gave_up.contains(id).then_some(End::GaveUp)
    }

    fn len(&self) -> usize {
        self.answered.len() + self.gave_up.len()
    }

    fn clear(&mut self) {
        self.answered.clear();
        self.gave_up.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_remembered_and_no_more() {
        let mut finished = Finished::default();
        let id = |number: usize| Uuid::from_u128(u128::try_from(number).unwrap());
        for number in 0..3 * CAPACITY + 10 {
            let end = if number % 2 == 0 { End::Answered } else { End::GaveUp };
            finished.remember(id(number), end);
        }
        assert_eq!(finished.end(id(2 * CAPACITY - 1)), None);
        assert_eq!(finished.end(id(2 * CAPACITY)), Some(End::Answered));
        assert_eq!(finished.end(id(3 * CAPACITY + 9)), Some(End::GaveUp));
        assert_eq!((finished.younger.len(), finished.older.len()), (10, CAPACITY));
    }
}
