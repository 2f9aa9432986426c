use proptest::prelude::*;

use super::*;

type CopyFn = unsafe extern "C" fn(*mut u8, *const u8, usize) -> *mut u8;

/// Copies within one buffer with `copy`, and compares with the standard library.
fn assert_copies(copy: CopyFn, from: usize, to: usize, count: usize) {
    let mut copied: Vec<u8> = (0..=250).cycle().take(from.max(to) + count + 32).collect();
    let mut expected = copied.clone();
    expected.copy_within(from..from + count, to);
    let start = copied.as_mut_ptr();
    // SAFETY: both ranges are within the buffer. They do not overlap where `copy` is `memcpy`.
    unsafe {
        let target = start.add(to);
        assert_eq!(copy(target, start.add(from), count), target);
    }
    assert!(copied == expected, "{count} bytes from {from} to {to}");
}

/// Copies `count` bytes with every overlap and without one. Under Miri, which is slow, with every 17th.
fn assert_copies_at_every_distance(count: usize) {
    let step = if cfg!(miri) { 17 } else { 1 };
    let distances = (0..count + 20).step_by(step);
    for (from, to) in distances.flat_map(|distance| [(distance, 10), (10, distance)]) {
        assert_copies(memmove, from, to, count);
    }
    assert_copies(memcpy, 3, count + 5, count);
    assert_copies(memcpy, count + 5, 3, count);
}

#[test]
fn short_copies_with_any_overlap() {
    // Miri is slow: it gets both ends of every range of `copy_short` only.
    let counts: Vec<usize> = if cfg!(miri) {
        vec![0, 1, 2, 3, 4, 7, 8, 16, 17, 32, 64, 65, 128]
    } else {
        (0..=128).collect()
    };
    for count in counts {
        assert_copies_at_every_distance(count);
    }
}

#[test]
#[cfg_attr(miri, ignore = "Miri does not run inline assembly")]
fn long_copies_with_any_overlap() {
    for count in 129..200 {
        assert_copies_at_every_distance(count);
    }
}

proptest! {
    #[test]
    #[cfg_attr(miri, ignore = "Miri does not run inline assembly")]
    fn random_copies_with_any_overlap(from in 0..5_000_usize, to in 0..5_000_usize, count in 0..20_000_usize) {
        assert_copies(memmove, from, to, count);
        assert_copies(memcpy, from, from + count + to, count);
    }
}
