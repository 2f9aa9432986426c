//! Correlation ids as keys. They are random already, and only our own are kept, so that nobody can choose them: each is
//! its own hash.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

use uuid::Uuid;

/// Something by id.
pub(crate) type IdMap<V> = HashMap<Uuid, V, BuildHasherDefault<AsItIs>>;

/// Ids, of which only one random half is kept. Among 131,072 of them a foreign id is taken for one of ours once in 2^45.
#[derive(Debug, Default)]
pub(crate) struct IdSet(HashSet<u64, BuildHasherDefault<AsItIs>>);

/// Takes the last eight bytes for their hash.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct AsItIs(u64);

// === impl IdSet ===

impl IdSet {
    pub(crate) fn insert(&mut self, id: Uuid) {
        self.0.insert(half(id));
    }

    pub(crate) fn contains(&self, id: Uuid) -> bool {
        self.0.contains(&half(id))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets all and keeps the room.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// The half without the version: 62 bits of it are drawn (RFC 9562, 5.4).
fn half(id: Uuid) -> u64 {
    id.as_u64_pair().1
}

// === impl AsItIs ===

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last_chunk() {
            self.0 = u64::from_be_bytes(*last);
        }
    }

    fn write_u64(&mut self, half: u64) {
        self.0 = half;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;

    #[test]
    fn an_id_is_its_own_hash() {
        let id = Uuid::new_v4();
        let hasher = BuildHasherDefault::<AsItIs>::default();
        assert_eq!(hasher.hash_one(id), half(id));
        assert_eq!(hasher.hash_one(half(id)), half(id));
    }

    #[test]
    fn a_set_has_what_was_put_in() {
        let mut set = IdSet::default();
        let ids: Vec<_> = (0..1_000).map(|_| Uuid::new_v4()).collect();
        let (known, unknown) = ids.split_at(500);
        known.iter().for_each(|id| set.insert(*id));
        assert!(known.iter().all(|id| set.contains(*id)));
        assert!(!unknown.iter().any(|id| set.contains(*id)));
        assert_eq!(set.len(), 500);
        set.clear();
        assert!(!ids.iter().any(|id| set.contains(*id)));
    }
}
