//! What became of the requests that are over: a bounded memory, to tell a late or a second reply from a foreign one.

use std::collections::{HashMap, VecDeque};

use uuid::Uuid;

/// How many are remembered; what is older is as foreign as what never was.
const CAPACITY: usize = 65_536;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With its reply.
    Answered,
    /// Without: its caller left, or was told something else.
    GaveUp,
}

/// The requests that ended last.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    ends: HashMap<Uuid, End>,
    /// The oldest first.
    order: VecDeque<Uuid>,
}

// === impl Finished ===

impl Finished {
    /// A request is over. Each id comes once.
    pub(crate) fn remember(&mut self, id: Uuid, end: End) {
        if self.order.len() == CAPACITY
            && let Some(oldest) = self.order.pop_front()
        {
            self.ends.remove(&oldest);
        }
        self.order.push_back(id);
        self.ends.insert(id, end);
    }

    /// How a request ended, if it is one of ours and not long ago.
    pub(crate) fn end(&self, id: &Uuid) -> Option<End> {
        self.ends.get(id).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_remembered_and_no_more() {
        let mut finished = Finished::default();
        let id = |number: usize| Uuid::from_u128(u128::try_from(number).unwrap());
        for number in 0..CAPACITY + 10 {
            let end = if number % 2 == 0 { End::Answered } else { End::GaveUp };
            finished.remember(id(number), end);
        }
        assert_eq!(finished.end(&id(9)), None);
        assert_eq!(finished.end(&id(10)), Some(End::Answered));
        assert_eq!(finished.end(&id(CAPACITY + 9)), Some(End::GaveUp));
        assert_eq!((finished.ends.len(), finished.order.len()), (CAPACITY, CAPACITY));
    }
}
