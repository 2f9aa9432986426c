//! Variable-length integers of Kafka's record format: zigzag, seven bits a byte, the lowest first.

/// The most bytes that one takes.
pub const MAX_VARINT_BYTES: usize = 10;

/// Appends `value`.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    out.push(rest.to_le_bytes()[0]);
}

/// How many bytes [`put_varint`] appends.
#[inline]
#[must_use]
pub fn varint_len(value: i64) -> usize {
    let bits = u64::BITS - (zigzag(value) | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Takes one off the front of `bytes`; `None` when it is cut off or longer than ten bytes.
#[inline]
pub fn take_varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    None
}

/// Appends a length and as many bytes; `None` is null, with the length -1.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    // A slice has at most `isize::MAX` bytes.
    put_varint(out, bytes.map_or(-1, |bytes| bytes.len().cast_signed() as i64));
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// How many bytes [`put_bytes`] appends.
#[inline]
#[must_use]
pub fn bytes_len(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varint_len(bytes.len().cast_signed() as i64) + bytes.len())
}

/// Takes a length and as many bytes off the front of `bytes`: the inner `None` is null, the outer one malformed.
#[inline]
pub fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match take_varint(bytes)? {
        -1 => Some(None),
        length => {
            let (taken, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
            *bytes = rest;
            Some(Some(taken))
        }
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn varints_have_the_bytes_of_the_record_format() {
        for (value, bytes) in [
            (0, &[0][..]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[0x7e]),
            (64, &[0x80, 1]),
            (-65, &[0x81, 1]),
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out, bytes, "{value}");
        }
    }

    #[test]
    fn cut_off_and_overlong_varints_are_malformed() {
        for bytes in [&[][..], &[0x80], &[0xff; 10], &[0x80; 11]] {
            assert_eq!(take_varint(&mut &*bytes), None, "{bytes:?}");
        }
        assert_eq!(
            take_bytes(&mut &[6, 1, 2][..]),
            None,
            "three bytes announced, two there"
        );
        assert_eq!(take_bytes(&mut &[3, 1, 2][..]), None, "a length of -2");
    }

    proptest! {
        #[test]
        fn what_is_put_is_taken(value: i64, bytes in prop::option::of(prop::collection::vec(any::<u8>(), 0..200))) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
            prop_assert!(out.len() <= MAX_VARINT_BYTES);
            put_bytes(&mut out, bytes.as_deref());
            prop_assert_eq!(out.len(), varint_len(value) + bytes_len(bytes.as_deref()));
            let mut rest = out.as_slice();
            prop_assert_eq!(take_varint(&mut rest), Some(value));
            prop_assert_eq!(take_bytes(&mut rest), Some(bytes.as_deref()));
            prop_assert!(rest.is_empty());
        }
    }
}
