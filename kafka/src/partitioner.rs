//! Which partition a key belongs to: murmur2, as Java's default partitioner, so that all producers of a topic agree.

/// The partition of a key among `partitions`: `toPositive(murmur2(key)) % partitions`
/// (`org.apache.kafka.clients.producer.internals.BuiltInPartitioner`).
#[must_use]
pub fn partition_for_key(key: &[u8], partitions: usize) -> usize {
    let positive = usize::try_from(murmur2(key) & 0x7fff_ffff).unwrap_or(0);
    positive.checked_rem(partitions).unwrap_or(0)
}

/// The 32-bit hash of `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "keys are far shorter than 4 GiB, and Java's lengths are 32 bits"
    )]
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by kafka-clients 4.3.1 (`Utils.murmur2`, `BuiltInPartitioner.partitionForKey` for 3, 10 and 48 partitions).
    const JAVA: [(&str, i32, [usize; 3]); 12] = [
        ("", 275_646_681, [0, 1, 9]),
        ("a", -1_563_381_124, [1, 4, 28]),
        ("ab", 316_155_434, [2, 4, 26]),
        ("abc", 479_470_107, [0, 7, 27]),
        ("abcd", -1_323_649_548, [2, 0, 20]),
        ("21", -973_932_308, [0, 0, 12]),
        ("foobar", -790_332_482, [0, 6, 30]),
        ("customer-7", -1_283_830_537, [1, 1, 7]),
        ("a-little-bit-longer-string", -1_486_304_829, [2, 9, 35]),
        ("5954edd9-58f2-42ac-9640-2976948fc47b", 1_522_103_072, [2, 2, 32]),
        ("äöü", -2_070_914_556, [2, 2, 20]),
        (
            "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
            -58_897_971,
            [2, 7, 29],
        ),
    ];

    #[test]
    fn partition_is_that_of_javas_default_partitioner() {
        for (key, hash, partitions) in JAVA {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
            let ours = [3, 10, 48].map(|count| partition_for_key(key.as_bytes(), count));
            assert_eq!(ours, partitions, "{key}");
        }
        let bytes = [0xff, 0x80, 0, 1, 0xfe];
        assert_eq!(murmur2(&bytes).cast_signed(), -173_560_464);
        assert_eq!(partition_for_key(&bytes, 10), 4);
        assert_eq!(partition_for_key(b"a", 0), 0, "no partition is known");
    }
}
