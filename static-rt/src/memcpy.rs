//! `memcpy` and `memmove` of the static binaries for x86-64.
//!
//! musl's copy with `rep movsq` whatever is longer than seven bytes, and that takes some thirty cycles to begin. Most of what
//! is copied here is a few bytes of a header or of a record: it took a seventh of the gateway's time and a quarter of the
//! worker's. (musl keeps both in assembly, to be small. Its versions for ARM are fast.)
//!
//! - Up to 128 bytes are loaded from both ends to the middle, overlapping there, and only then stored: so it does not matter
//!   whether the two places overlap.
//! - More is for the processor, which knows best how (`rep movsb`).
//! - There is no loop that the compiler could take for a `memcpy`, and no call. (In a build without optimization there would
//!   be one, to itself: that has musl's.)

#![expect(unsafe_code, reason = "the contract is C's")]

use std::arch::{asm, x86_64::__m128i};

/// Copies `count` bytes, and gives `to` back.
///
/// # Safety
/// `from` can be read and `to` be written for so many bytes, and the two do not overlap.
#[cfg_attr(not(any(test, debug_assertions)), unsafe(no_mangle))]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller keeps the same contract.
    unsafe {
        if !copy_short(to, from, count) {
            copy_forward(to, from, count);
        }
    }
    to
}

/// Copies `count` bytes, as if to somewhere else first, and gives `to` back.
///
/// # Safety
/// `from` can be read and `to` be written for so many bytes.
#[cfg_attr(not(any(test, debug_assertions)), unsafe(no_mangle))]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller keeps the same contract. Backward only where `to` begins within what is to be copied: a wrapped
    // distance is larger than anything that can be copied.
    unsafe {
        if !copy_short(to, from, count) {
            if to.addr().wrapping_sub(from.addr()) < count {
                copy_backward(to, from, count);
            } else {
                copy_forward(to, from, count);
            }
        }
    }
    to
}

/// Copies up to 128 bytes; `false` if there are more.
///
/// # Safety
/// As of [`memmove`].
#[inline(always)]
unsafe fn copy_short(to: *mut u8, from: *const u8, count: usize) -> bool {
    // SAFETY: as many bytes are there as each range says.
    unsafe {
        match count {
            0 => {}
            1 => to.write(from.read()),
            2..=3 => copy_ends::<u16>(to, from, count),
            4..=7 => copy_ends::<u32>(to, from, count),
            8..=16 => copy_ends::<u64>(to, from, count),
            17..=32 => copy_ends::<__m128i>(to, from, count),
            33..=64 => copy_ends::<Pair<__m128i>>(to, from, count),
            65..=128 => copy_ends::<Pair<Pair<__m128i>>>(to, from, count),
            _ => return false,
        }
    }
    true
}

/// Copies the first and the last bytes, as many as a piece has.
///
/// # Safety
/// As of [`memmove`], and `count` is no less than the bytes of a piece.
#[inline(always)]
unsafe fn copy_ends<P: Piece>(to: *mut u8, from: *const u8, count: usize) {
    let last = count - size_of::<P>();
    // SAFETY: both pieces are within what can be read and written.
    unsafe {
        let pieces = (P::load(from), P::load(from.add(last)));
        pieces.0.store(to);
        pieces.1.store(to.add(last));
    }
}

/// Copies byte after byte, as far as can be told.
///
/// # Safety
/// As of [`memmove`], and `to` does not begin within what is to be copied.
#[inline(always)]
unsafe fn copy_forward(to: *mut u8, from: *const u8, count: usize) {
    // SAFETY: it reads and writes these bytes and nothing else; the ABI says that the direction flag is clear.
    unsafe {
        asm!(
            "rep movsb",
            inout("rcx") count => _,
            inout("rdi") to => _,
            inout("rsi") from => _,
            options(nostack, preserves_flags),
        );
    }
}

/// Copies from the end to the beginning.
///
/// # Safety
/// As of [`memmove`], and `count` is no less than eight.
unsafe fn copy_backward(to: *mut u8, from: *const u8, count: usize) {
    // SAFETY: it reads and writes words that end with these bytes, and the first word, and leaves the direction flag clear.
    unsafe {
        let first = u64::load(from);
        asm!(
            "std",
            "rep movsq",
            "cld",
            inout("rcx") count / 8 => _,
            inout("rdi") to.add(count - 8) => _,
            inout("rsi") from.add(count - 8) => _,
            options(nostack),
        );
        first.store(to);
    }
}

/// What is loaded and stored at once, from and to any address.
trait Piece: Sized {
    /// # Safety
    /// There is as much to read.
    unsafe fn load(from: *const u8) -> Self;

    /// # Safety
    /// There is as much to write.
    unsafe fn store(self, to: *mut u8);
}

/// Two pieces, one behind the other.
#[repr(C)]
struct Pair<P>(P, P);

macro_rules! register {
    ($($type:ty),*) => {$(
        impl Piece for $type {
            #[inline(always)]
            unsafe fn load(from: *const u8) -> Self {
                // SAFETY: the caller's, and every value is one of this type.
                unsafe { from.cast::<Self>().read_unaligned() }
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut u8) {
                // SAFETY: the caller's.
                unsafe { to.cast::<Self>().write_unaligned(self) }
            }
        }
    )*};
}

register!(u16, u32, u64, __m128i);

impl<P: Piece> Piece for Pair<P> {
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller's: there are both.
        unsafe { Self(P::load(from), P::load(from.add(size_of::<P>()))) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: the caller's: there is room for both.
        unsafe {
            self.0.store(to);
            self.1.store(to.add(size_of::<P>()));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Copies within one buffer, by `copy` and by the standard library.
    fn assert_same(
        from: usize,
        to: usize,
        count: usize,
        copy: unsafe extern "C" fn(*mut u8, *const u8, usize) -> *mut u8,
    ) {
        let mut copied: Vec<u8> = (0..=250).cycle().take(from.max(to) + count + 32).collect();
        let mut expected = copied.clone();
        expected.copy_within(from..from + count, to);
        let start = copied.as_mut_ptr();
        // SAFETY: both places are in the buffer.
        unsafe {
            let target = start.add(to);
            assert_eq!(copy(target, start.add(from), count), target);
        }
        assert!(copied == expected, "{count} bytes from {from} to {to}");
    }

    #[test]
    fn every_short_copy_is_right_whatever_overlaps() {
        for count in 0..200 {
            for (from, to) in (0..count + 20).flat_map(|it| [(it, 10), (10, it)]) {
                assert_same(from, to, count, memmove);
            }
            assert_same(3, count + 5, count, memcpy);
            assert_same(count + 5, 3, count, memcpy);
        }
    }

    proptest! {
        #[test]
        fn every_long_copy_is_right_whatever_overlaps(from in 0..5_000_usize, to in 0..5_000_usize, count in 0..20_000_usize) {
            assert_same(from, to, count, memmove);
            assert_same(from, from + count + to, count, memcpy);
        }
    }
}
