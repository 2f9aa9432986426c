//! The allocator of the static binaries: `dlmalloc` behind a futex mutex.
//!
//! With musl's own allocator a binary uses 50 % more CPU. `dlmalloc`'s global allocator locks a pthread mutex, which costs 10 %
//! of the throughput. The standard library's mutex is a futex; its cost is too small to measure.

#![expect(unsafe_code, reason = "the contract of GlobalAlloc is unsafe")]
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
    /// An empty allocator. The first allocation maps memory.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            heap: Mutex::new(Dlmalloc::new()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Dlmalloc> {
        // No code panics under the lock, so the poison flag has no meaning.
        self.heap.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Allocator {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: `Dlmalloc` keeps the contract of this trait and does not unwind. The mutex admits one thread at a time, and no code
// under it allocates from this allocator.
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
