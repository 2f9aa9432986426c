//! `memcmp` and `bcmp` of the static binaries.
//!
//! musl's compare byte after byte, whatever the architecture. Most of what is compared here are the names of headers, which
//! begin alike, and ids: it took a twentieth of the worker's time.
//!
//! - Words are compared from the front, and then once more the last word, of which a part may have been compared already:
//!   what was compared is equal, so that does not matter.
//! - Nothing but integers is compared. (Two arrays would be, by a call to one of these.)

#![expect(unsafe_code, reason = "the contract is C's")]

/// The order of the first `count` bytes: negative, zero or positive.
///
/// # Safety
/// So many bytes can be read of both.
#[cfg_attr(not(any(test, debug_assertions)), unsafe(no_mangle))]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    // SAFETY: the caller's; as many bytes are there as each range says.
    unsafe {
        match count {
            0 => 0,
            1 => compare::<1>(left, right, 0),
            2..=3 => compare_ends::<2>(left, right, count),
            4..=7 => compare_ends::<4>(left, right, count),
            _ => {
                let mut at = 0;
                while at + 8 < count {
                    let order = compare::<8>(left, right, at);
                    if order != 0 {
                        return order;
                    }
                    at += 8;
                }
                compare::<8>(left, right, count - 8)
            }
        }
    }
}

/// Zero where the first `count` bytes are equal. The compiler calls it where the order does not matter.
///
/// # Safety
/// As of [`memcmp`].
#[cfg_attr(not(any(test, debug_assertions)), unsafe(no_mangle))]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    // SAFETY: the caller's.
    unsafe { memcmp(left, right, count) }
}

/// The order of the first and, if those are equal, the last `N` bytes.
///
/// # Safety
/// As of [`memcmp`], and `count` is no less than `N`.
#[inline(always)]
unsafe fn compare_ends<const N: usize>(left: *const u8, right: *const u8, count: usize) -> i32 {
    // SAFETY: both are within what can be read.
    unsafe {
        match compare::<N>(left, right, 0) {
            0 => compare::<N>(left, right, count - N),
            order => order,
        }
    }
}

/// The order of `N` bytes, eight at most, from `at` on.
///
/// # Safety
/// They can be read of both.
#[inline(always)]
unsafe fn compare<const N: usize>(left: *const u8, right: *const u8, at: usize) -> i32 {
    // SAFETY: the caller's.
    let [left, right] = [left, right].map(|it| {
        let bytes: [u8; N] = unsafe { it.add(at).cast::<[u8; N]>().read_unaligned() };
        bytes.into_iter().fold(0, |word, byte| (word << 8) | u64::from(byte))
    });
    i32::from(left > right) - i32::from(left < right)
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;

    use super::*;

    fn order(left: &[u8], right: &[u8]) -> Ordering {
        // SAFETY: both have as many bytes.
        let (order, equality) = unsafe {
            let (left, right, count) = (left.as_ptr(), right.as_ptr(), left.len().min(right.len()));
            (memcmp(left, right, count), bcmp(left, right, count))
        };
        assert_eq!(order == 0, equality == 0);
        order.cmp(&0)
    }

    #[test]
    fn one_byte_decides_wherever_it_is() {
        for count in 0..100 {
            let same = vec![0x80; count];
            assert_eq!(order(&same, &same.clone()), Ordering::Equal, "{count} bytes");
            for at in 0..count {
                // What comes after it says the opposite.
                for (byte, rest, expected) in [(0x7f, 0xff, Ordering::Less), (0x81, 0, Ordering::Greater)] {
                    let mut other = same.clone();
                    other[at..].fill(rest);
                    other[at] = byte;
                    assert_eq!(order(&other, &same), expected, "byte {at} of {count}");
                    assert_eq!(order(&same, &other), expected.reverse(), "byte {at} of {count}");
                }
            }
        }
    }

    #[test]
    fn what_lies_behind_does_not_count() {
        for count in 0..100 {
            let (left, right) = (vec![1; count], [vec![1; count], vec![2; 16]].concat());
            assert_eq!(order(&left, &right), Ordering::Equal, "{count} bytes");
        }
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_slices(left in bytes(), right in bytes()) {
            let count = left.len().min(right.len());
            prop_assert_eq!(order(&left, &right), left[..count].cmp(&right[..count]));
        }
    }

    /// Most begin alike.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        (0..100_usize, any::<Vec<u8>>()).prop_map(|(same, rest)| [vec![7; same], rest].concat())
    }
}
