//! The allocator of the static binaries: `dlmalloc` behind a futex mutex.
//!
//! musl's own allocator takes half as much CPU time again. The lock of the crate `dlmalloc` is one of pthread's, which
//! costs 10 % of the throughput; the standard library's mutex is a futex, and its cost is too small to measure.

#![expect(unsafe_code, reason = "an allocator is unsafe by its contract")]
#![expect(
    clippy::disallowed_types,
    reason = "parking_lot allocates where threads wait for a lock"
)]

use std::{
    alloc::{GlobalAlloc, Layout},
    sync::{Mutex, MutexGuard, PoisonError},
};

use dlmalloc::Dlmalloc;

/// A global allocator.
pub struct Allocator {
    heap: Mutex<Dlmalloc>,
}

// === impl Allocator ===

impl Allocator {
    /// An allocator without memory; it asks the system for some at the first allocation.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            heap: Mutex::new(Dlmalloc::new()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Dlmalloc> {
        // Nothing panics under the lock.
        self.heap.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Allocator {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: `Dlmalloc` has the contract of this trait, is used by one thread at a time, and does not unwind. Nothing under
// the lock allocates from this allocator.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the same contract.
        unsafe { self.lock().malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the same contract.
        unsafe { self.lock().calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the same contract.
        unsafe { self.lock().free(memory, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the same contract.
        unsafe { self.lock().realloc(memory, layout.size(), layout.align(), size) }
    }
}

#[cfg(test)]
mod tests;
