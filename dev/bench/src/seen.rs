//! The ids seen lately, to notice one that comes twice.
//!
//! One place per id, chosen by its own random bits; a newer id takes the place of an older one. So it never cries
//! wolf, costs one memory access and a fixed 4 MiB, and misses a repetition only if one of the ids between the two fell
//! on the same place: 1,000 answers apart that is one in 250.

use uuid::Uuid;

/// A power of two, so that the choice of a place is a mask.
const PLACES: usize = 1 << 18;

/// Ids seen lately.
#[derive(Debug)]
pub(crate) struct Seen {
    places: Box<[u128]>,
}

// === impl Seen ===

impl Seen {
    pub(crate) fn new() -> Self {
        // Zero is no version 4 UUID, so it can mark a free place.
        Self {
            places: vec![0; PLACES].into_boxed_slice(),
        }
    }

    /// Whether this id is new.
    pub(crate) fn insert(&mut self, id: Uuid) -> bool {
        let id = id.as_u128();
        let [low, high, ..] = id.to_le_bytes();
        let [_, _, third, ..] = id.to_le_bytes();
        let place = u32::from_le_bytes([low, high, third, 0]) as usize % PLACES;
        match self.places.get_mut(place) {
            Some(place) => std::mem::replace(place, id) != id,
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_repeated_id_is_not_new() {
        let mut seen = Seen::new();
        let ids: Vec<_> = (0..1_000).map(|_| Uuid::new_v4()).collect();
        assert!(ids.iter().all(|id| seen.insert(*id)));
        // One in 250 of them may have lost its place.
        assert!(ids.iter().rev().filter(|id| !seen.insert(**id)).count() > 900);
        let last = Uuid::new_v4();
        assert!(seen.insert(last));
        assert!(!seen.insert(last));
    }
}
