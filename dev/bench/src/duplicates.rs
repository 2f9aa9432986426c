//! Recent response ids, to detect one that occurs twice.
//!
//! One slot per id, chosen by the random bits of the id; a newer id overwrites an older one. There are no false positives,
//! and the size is 4 MiB. A repetition 1,000 responses later is missed in one of 250 cases.

use uuid::Uuid;

/// A power of two, so that the choice of a slot is a mask.
const SLOTS: usize = 1 << 18;

#[derive(Debug)]
pub(crate) struct RecentIds {
    slots: Box<[u128]>,
}

// === impl RecentIds ===

impl RecentIds {
    pub(crate) fn new() -> Self {
        // Zero marks an empty slot: it is no version 4 UUID.
        Self {
            slots: vec![0; SLOTS].into_boxed_slice(),
        }
    }

    /// Whether this id is new.
    pub(crate) fn insert(&mut self, id: Uuid) -> bool {
        let id = id.as_u128();
        let [first, second, third, ..] = id.to_le_bytes();
        let index = u32::from_le_bytes([first, second, third, 0]) as usize % SLOTS;
        let slot = self.slots.get_mut(index);
        slot.is_none_or(|slot| std::mem::replace(slot, id) != id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_id_is_detected() {
        let mut recent_ids = RecentIds::new();
        let ids: Vec<_> = (0..1_000).map(|_| Uuid::new_v4()).collect();
        assert!(ids.iter().all(|id| recent_ids.insert(*id)));
        // One in 250 of them may have been overwritten.
        assert!(ids.iter().rev().filter(|id| !recent_ids.insert(**id)).count() > 900);
        let last = Uuid::new_v4();
        assert!(recent_ids.insert(last));
        assert!(!recent_ids.insert(last));
    }
}
