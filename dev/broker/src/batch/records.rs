//! Offsets and timestamps of the records in an uncompressed batch.
//!
//! The bytes are untrusted: iteration ends at the first record that does not decode.

use bytes::Buf;

/// Offset and timestamp of a record, relative to the batch header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delta {
    /// Relative to the base offset.
    pub(crate) offset: i64,
    /// In ms, relative to the base timestamp.
    pub(crate) timestamp: i64,
}

/// Decodes the records of an uncompressed batch.
pub(crate) fn deltas(mut records: &[u8]) -> impl Iterator<Item = Delta> {
    std::iter::from_fn(move || {
        let length = usize::try_from(varint(&mut records)?).ok()?;
        let (mut record, rest) = records.split_at_checked(length)?;
        records = rest;
        let _attributes = record.try_get_i8().ok()?;
        let timestamp = varint(&mut record)?;
        let offset = varint(&mut record)?;
        Some(Delta { offset, timestamp })
    })
}

/// The number of records. None unless the bytes are complete records.
pub(crate) fn count(mut records: &[u8]) -> Option<i32> {
    let mut count = 0_i32;
    while !records.is_empty() {
        let length = usize::try_from(varint(&mut records)?).ok()?;
        records = records.get(length..)?;
        count = count.checked_add(1)?;
    }
    Some(count)
}

/// Whether a transaction marker commits. None if the record is not a marker.
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

/// A zigzag varint of at most ten bytes, as in Protocol Buffers.
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
    fn varints_are_zigzag() {
        for (bytes, value) in [(&[0_u8][..], 0), (&[1], -1), (&[2], 1), (&[0xd8, 4], 300)] {
            assert_eq!(varint(&mut &*bytes), Some(value));
        }
        assert_eq!(varint(&mut &[0xff; 11][..]), None);
        assert_eq!(varint(&mut &[0x80][..]), None);
    }

    #[test]
    fn invalid_record_ends_iteration() {
        assert_eq!(deltas(&[0xff; 64]).count(), 0);
        assert_eq!(deltas(&[2, 0]).count(), 0);
        assert_eq!(deltas(&[1]).count(), 0);
    }
}
