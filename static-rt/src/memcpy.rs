//! `memcpy` and `memmove` for x86-64.
//!
//! musl copies more than seven bytes with `rep movsq`, which takes about 30 cycles to start. Most copies here are a few bytes
//! of a header or a record: musl's took 1/7 of the gateway's CPU and 1/4 of the worker's. musl's versions for ARM are fast.
//!
//! - Up to 128 bytes: load pieces from both ends, which may overlap in the middle, then store all. So source and destination
//!   may overlap.
//! - More: `rep movsb`, for which processors with ERMS have fast microcode.
//! - The code has no loop that the compiler could turn into a `memcpy`, and no call. An unoptimized build would call
//!   `memcpy` from itself, so it keeps musl's.

#![expect(unsafe_code, reason = "the contract is that of C")]

use std::arch::{asm, x86_64::__m128i};

/// Copies `count` bytes and returns `to`.
///
/// # Safety
/// `from` is valid for reads and `to` for writes of `count` bytes. The two ranges do not overlap.
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

/// Copies `count` bytes between ranges that may overlap, and returns `to`.
///
/// # Safety
/// `from` is valid for reads and `to` for writes of `count` bytes.
#[cfg_attr(not(any(test, debug_assertions)), unsafe(no_mangle))]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller keeps the same contract. `to` begins within the source exactly if the distance is less than `count`:
    // a negative distance wraps to more than any object's size.
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
/// That of [`memmove`].
#[inline(always)]
unsafe fn copy_short(to: *mut u8, from: *const u8, count: usize) -> bool {
    // SAFETY: the lower bound of each range is at least the size of its piece.
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

/// Copies the first and the last piece of the range, which may overlap.
///
/// # Safety
/// That of [`memmove`], and `count` is at least the size of a piece.
#[inline(always)]
unsafe fn copy_ends<P: Piece>(to: *mut u8, from: *const u8, count: usize) {
    let last = count - size_of::<P>();
    // SAFETY: both pieces are within the range.
    unsafe {
        let pieces = (P::load(from), P::load(from.add(last)));
        pieces.0.store(to);
        pieces.1.store(to.add(last));
    }
}

/// Copies in ascending order.
///
/// # Safety
/// That of [`memmove`], and `to` does not begin within the source.
#[inline(always)]
unsafe fn copy_forward(to: *mut u8, from: *const u8, count: usize) {
    // SAFETY: the instruction accesses the two ranges only. The ABI guarantees that the direction flag is clear.
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

/// Copies words in descending order, then the first word, which may overlap the last one copied.
///
/// # Safety
/// That of [`memmove`], and `count` is at least eight.
unsafe fn copy_backward(to: *mut u8, from: *const u8, count: usize) {
    // SAFETY: the words are within the two ranges, and `cld` restores the direction flag.
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

/// A value that is loaded and stored as a whole, at any alignment.
trait Piece: Sized {
    /// # Safety
    /// `from` is valid for reads of the size of the piece.
    unsafe fn load(from: *const u8) -> Self;

    /// # Safety
    /// `to` is valid for writes of the size of the piece.
    unsafe fn store(self, to: *mut u8);
}

/// Two adjacent pieces.
#[repr(C)]
struct Pair<P>(P, P);

macro_rules! impl_piece {
    ($($type:ty),*) => {$(
        impl Piece for $type {
            #[inline(always)]
            unsafe fn load(from: *const u8) -> Self {
                // SAFETY: the caller guarantees the size, and every bit pattern is a valid value.
                unsafe { from.cast::<Self>().read_unaligned() }
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut u8) {
                // SAFETY: the caller guarantees the size.
                unsafe { to.cast::<Self>().write_unaligned(self) }
            }
        }
    )*};
}

impl_piece!(u16, u32, u64, __m128i);

impl<P: Piece> Piece for Pair<P> {
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller guarantees the size of both pieces.
        unsafe { Self(P::load(from), P::load(from.add(size_of::<P>()))) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: the caller guarantees the size of both pieces.
        unsafe {
            self.0.store(to);
            self.1.store(to.add(size_of::<P>()));
        }
    }
}

#[cfg(test)]
mod tests;
