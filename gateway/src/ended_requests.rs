//! How the last requests ended: tells a late or duplicate reply from one that belongs to another gateway.

use std::collections::{HashMap, VecDeque};

use uuid::Uuid;

/// Ended requests that are remembered: the last 4 s at 16,000 requests/s.
const CAPACITY: usize = 65_536;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With its reply.
    Answered,
    /// With an error.
    Failed,
    /// The caller disconnected first.
    Cancelled,
}

/// The last [`CAPACITY`] requests that ended; the oldest is evicted first.
#[derive(Debug)]
pub(crate) struct EndedRequests {
    ends: HashMap<Uuid, End>,
    /// In the order of their ends.
    order: VecDeque<Uuid>,
}

// === impl EndedRequests ===

impl EndedRequests {
    /// Allocates everything at once (6 MB of address space), so that no request waits for a rehash. Half of the table stays
    /// empty: each eviction may leave a tombstone, and a table full of tombstones is rehashed.
    pub(crate) fn new() -> Self {
        Self {
            ends: HashMap::with_capacity(2 * CAPACITY),
            order: VecDeque::with_capacity(CAPACITY + 1),
        }
    }

    /// Remembers a request. An id is inserted once.
    pub(crate) fn insert(&mut self, id: Uuid, end: End) {
        self.ends.insert(id, end);
        self.order.push_back(id);
        if self.order.len() > CAPACITY
            && let Some(oldest) = self.order.pop_front()
        {
            self.ends.remove(&oldest);
        }
    }

    /// How a request ended; `None` if it is not one of ours, or was evicted.
    pub(crate) fn get(&self, id: Uuid) -> Option<End> {
        self.ends.get(&id).copied()
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
    fn the_oldest_is_evicted_beyond_the_capacity() {
        let mut ended = EndedRequests::new();
        let (table, queue) = (ended.ends.capacity(), ended.order.capacity());
        let count = 4 * CAPACITY;
        for number in 0..count {
            ended.insert(id(number), ENDS[number % 3]);
        }
        let oldest = count - CAPACITY;
        assert_eq!(ended.get(id(oldest - 1)), None);
        assert_eq!(ended.get(id(oldest)), Some(ENDS[oldest % 3]));
        assert_eq!(ended.get(id(count - 1)), Some(ENDS[(count - 1) % 3]));
        assert_eq!((ended.ends.len(), ended.order.len()), (CAPACITY, CAPACITY));
        // Tombstones count as used: the capacity shrinks by them, and rises only if the table is allocated anew.
        assert!(ended.ends.capacity() <= table);
        assert_eq!(ended.order.capacity(), queue);
    }
}
