//! How the last requests ended: tells a late or duplicate reply from one that belongs to another gateway.
//!
//! Requests are kept in two generations. When the current one is full, the previous one is cleared as a whole and takes its
//! place. With one map and a queue for eviction, each request also cost a removal: 0.55 µs of CPU instead of 0.16 µs.

use std::{collections::HashMap, mem};

use uuid::Uuid;

/// The size of a generation. At least as many ended requests are remembered, and at most 65,536.
const GENERATION: usize = 32_768;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With its reply.
    Answered,
    /// With an error.
    Failed,
    /// The caller disconnected first.
    Cancelled,
    /// The caller asked for less time than the route gives, and got no reply in it.
    Shortened,
}

/// The requests that ended last, and how.
#[derive(Debug)]
pub(crate) struct EndedRequests<T> {
    current: HashMap<Uuid, T>,
    previous: HashMap<Uuid, T>,
}

// === impl EndedRequests ===

impl<T: Copy> EndedRequests<T> {
    /// Allocates everything at once, so that no request waits for a map to grow.
    pub(crate) fn new() -> Self {
        Self {
            current: HashMap::with_capacity(GENERATION),
            previous: HashMap::with_capacity(GENERATION),
        }
    }

    /// Remembers a request. An id is inserted once.
    pub(crate) fn insert(&mut self, id: Uuid, end: T) {
        if self.current.len() == GENERATION {
            mem::swap(&mut self.current, &mut self.previous);
            self.current.clear();
        }
        self.current.insert(id, end);
    }

    /// How a request ended; `None` if it is not one of ours, or was forgotten.
    pub(crate) fn get(&self, id: Uuid) -> Option<T> {
        self.current.get(&id).or_else(|| self.previous.get(&id)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: [End; 3] = [End::Answered, End::Failed, End::Cancelled];

    fn id(number: usize) -> Uuid {
        Uuid::from_u128(u128::try_from(number).unwrap())
    }

    #[test]
    fn each_end_is_remembered() {
        let mut ended = EndedRequests::new();
        for (number, end) in ENDS.into_iter().enumerate() {
            assert_eq!(ended.get(id(number)), None);
            ended.insert(id(number), end);
            assert_eq!(ended.get(id(number)), Some(end));
        }
    }

    #[test]
    fn the_oldest_generation_is_forgotten() {
        let mut ended = EndedRequests::new();
        for number in 0..3 * GENERATION {
            ended.insert(id(number), ENDS[number % 3]);
        }
        assert_eq!(ended.get(id(GENERATION - 1)), None);
        for number in GENERATION..3 * GENERATION {
            assert_eq!(ended.get(id(number)), Some(ENDS[number % 3]));
        }
        // The next one starts a generation.
        ended.insert(id(3 * GENERATION), End::Answered);
        assert_eq!(ended.get(id(2 * GENERATION - 1)), None);
        assert_eq!(ended.get(id(2 * GENERATION)), Some(ENDS[2 * GENERATION % 3]));
    }

    #[test]
    fn the_maps_do_not_grow() {
        let mut ended = EndedRequests::new();
        let capacity = (ended.current.capacity(), ended.previous.capacity());
        for number in 0..4 * GENERATION {
            ended.insert(id(number), End::Answered);
        }
        assert_eq!((ended.current.capacity(), ended.previous.capacity()), capacity);
    }
}
