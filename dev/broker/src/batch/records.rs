//! The records inside an unpacked batch, as far as their offsets and timestamps go.
//!
//! The bytes are a producer's: whatever does not parse ends the walk.

use bytes::Buf;

/// Where a record stands and when it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Offset, counted from the first record of the batch.
    pub(crate) offset_delta: i64,
    /// Timestamp, counted in ms from that of the first record.
    pub(crate) timestamp_delta: i64,
}

/// Walks the records of an uncompressed batch.
pub(crate) fn stamps(mut records: &[u8]) -> impl Iterator<Item = Stamp> {
    std::iter::from_fn(move || {
        let length = usize::try_from(varint(&mut records)?).ok()?;
        let (mut record, rest) = records.split_at_checked(length)?;
        records = rest;
        let _attributes = record.try_get_i8().ok()?;
        let timestamp_delta = varint(&mut record)?;
        let offset_delta = varint(&mut record)?;
        Some(Stamp {
            offset_delta,
            timestamp_delta,
        })
    })
}

/// How many records there are; none if the bytes are anything but whole records.
pub(crate) fn count(mut records: &[u8]) -> Option<i32> {
    let mut count = 0_i32;
    while !records.is_empty() {
        let length = usize::try_from(varint(&mut records)?).ok()?;
        records = records.get(length..)?;
        count = count.checked_add(1)?;
    }
    Some(count)
}

/// The type in a transaction marker: true for a commit. None if it is no marker.
pub(crate) fn marker_commits(mut records: &[u8]) -> Option<bool> {
    let length = usize::try_from(varint(&mut records)?).ok()?;
    let mut record = records.get(..length)?;
    let _attributes = record.try_get_i8().ok()?;
    let _timestamp_delta = varint(&mut record)?;
    let _offset_delta = varint(&mut record)?;
    let _key_length = varint(&mut record)?;
    let _version = record.try_get_i16().ok()?;
    match record.try_get_i16().ok()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// A zigzag number of up to ten bytes, as Protocol Buffers write it.
fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = bytes.try_get_u8().ok()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_zigzag() {
        for (bytes, value) in [(&[0_u8][..], 0), (&[1], -1), (&[2], 1), (&[0xd8, 4], 300)] {
            assert_eq!(varint(&mut &*bytes), Some(value));
        }
        assert_eq!(varint(&mut &[0xff; 11][..]), None);
        assert_eq!(varint(&mut &[0x80][..]), None);
    }

    #[test]
    fn garbage_ends_the_walk() {
        assert_eq!(stamps(&[0xff; 64]).count(), 0);
        assert_eq!(stamps(&[2, 0]).count(), 0);
        assert_eq!(stamps(&[1]).count(), 0);
    }
}
