//! Correlation ids as keys. They are random already, and only our own are kept, so that nobody can choose them: each is
//! its own hash.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

use uuid::Uuid;

/// Something by id.
pub(crate) type IdMap<V> = HashMap<Uuid, V, BuildHasherDefault<AsItIs>>;

/// Halves of ids.
pub(crate) type IdSet = HashSet<Half, BuildHasherDefault<AsItIs>>;

/// Of an id the half without the version: 62 bits of it are drawn (RFC 9562, 5.4). Among 131,072 of them a foreign id is
/// taken for one of ours once in 2^45.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Half(u64);

/// Takes the last eight bytes for their hash.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct AsItIs(u64);

// === impl Half ===

impl Half {
    /// Another one: a bit of the variant is flipped. All our ids have the same variant, so halves that are marked, marked
    /// otherwise, and not marked at all never meet.
    pub(crate) fn marked(self, bit: u32) -> Self {
        Self(self.0 ^ (1 << (62 + bit)))
    }
}

impl From<Uuid> for Half {
    fn from(id: Uuid) -> Self {
        Self(id.as_u64_pair().1)
    }
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
        let Half(half) = id.into();
        assert_eq!(hasher.hash_one(id), half);
        assert_eq!(hasher.hash_one(Half(half)), half);
    }
}
