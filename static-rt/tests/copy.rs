//! Copies through the standard library, with lengths that the compiler does not know, so each is a call of `memcpy` or
//! `memmove`. Built for musl in release mode, the symbols are those of this crate; else they are the system's.

use std::hint::black_box;

use static_rt::Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator::new();

/// All lengths around the limits of the implementation, and a few long ones.
fn lengths() -> impl Iterator<Item = usize> {
    (0..300).chain([4_095, 4_096, 65_537, 1 << 20])
}

fn pattern(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

#[test]
#[cfg_attr(miri, ignore = "Miri copies without memcpy")]
fn copy_from_slice_copies_every_length() {
    for length in lengths() {
        let source = pattern(length);
        let mut copy = vec![0xff; length + 2];
        black_box(&mut copy[1..=length]).copy_from_slice(black_box(&source));
        assert!(copy[1..=length].iter().eq(&source), "{length} bytes");
        assert_eq!((copy[0], copy[length + 1]), (0xff, 0xff), "around {length} bytes");
    }
}

#[test]
#[cfg_attr(miri, ignore = "Miri copies without memcpy")]
fn copy_within_moves_overlapping_ranges() {
    for length in lengths() {
        for distance in [1, 7, 8, 100] {
            let original = pattern(length + distance);
            let mut forward = original.clone();
            black_box(&mut forward).copy_within(black_box(0..length), distance);
            assert!(forward[distance..].iter().eq(&original[..length]), "{length} bytes up");
            let mut backward = original.clone();
            black_box(&mut backward).copy_within(black_box(distance..distance + length), 0);
            assert!(
                backward[..length].iter().eq(&original[distance..]),
                "{length} bytes down"
            );
        }
    }
}
