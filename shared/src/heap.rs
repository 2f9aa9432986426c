//! The memory of the static binaries: musl's own allocator costs half as much processor time again.
//!
//! - The algorithm is `dlmalloc`'s. Its own lock is one of pthread's, which took a twelfth of the gateway's time; a
//!   [`Mutex`] is a small part of that.
//! - Small memory comes from a cache that needs no lock, if it is asked for by the thread that does all the work.
//! - The buffers of connections are blocks: of each, one page is touched, and it stays where it is. As parts of
//!   a common heap they would be cut anew for every crowd, until all of both pages had been touched.
//! - The code is not copied to wherever memory is asked for: that would be more than a hundred kilobytes.

#![allow(
    clippy::disallowed_types,
    reason = "the lock of parking_lot allocates where threads meet"
)]

mod blocks;
mod cache;
mod list;

use std::{
    alloc::{GlobalAlloc, Layout},
    ptr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use dlmalloc::Dlmalloc;

use self::{
    blocks::Blocks,
    cache::{Cache, Class},
};

/// A global allocator.
pub struct Heap {
    any: Mutex<Dlmalloc>,
    cache: Cache,
    blocks: Mutex<Blocks>,
}

/// Where memory is from: the layout alone says it, and whoever has memory names the layout it has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// From `dlmalloc`, with the size of the class; given back to the cache.
    Small(Class),
    Block,
    Any,
}

// === impl Heap ===

impl Heap {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            any: Mutex::new(Dlmalloc::new()),
            cache: Cache::new(),
            blocks: Mutex::new(Blocks::new()),
        }
    }
}

impl Default for Heap {
    fn default() -> Self {
        Self::new()
    }
}

/// Nothing panics under a lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// SAFETY: memory is given, moved and taken back by `Dlmalloc`, whose contract is that of this trait, or it is a block. What was
// given back by the one thread that has the cache may be given again, with the size and alignment of its class. `Dlmalloc`
// and the blocks are behind locks, under which nothing allocates from here. Nothing unwinds.
#[expect(unsafe_code, reason = "an allocator is unsafe by its contract")]
unsafe impl GlobalAlloc for Heap {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the same contract.
        unsafe {
            match Source::of(layout) {
                Source::Small(class) => match self.cache.take(class) {
                    Some(memory) => memory,
                    None => lock(&self.any).malloc(class.bytes(), Class::ALIGN),
                },
                Source::Block => lock(&self.blocks).take(),
                Source::Any => lock(&self.any).malloc(layout.size(), layout.align()),
            }
        }
    }

    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the same contract. What is not null has the layout's size, and is nobody's yet.
        unsafe {
            if Source::of(layout) == Source::Any {
                return lock(&self.any).calloc(layout.size(), layout.align());
            }
            let memory = self.alloc(layout);
            if !memory.is_null() {
                ptr::write_bytes(memory, 0, layout.size());
            }
            memory
        }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: it is from where its layout says, with this size and alignment, and nobody's from now on.
        unsafe {
            match Source::of(layout) {
                Source::Small(class) if self.cache.give_back(class, memory) => {}
                Source::Small(class) => lock(&self.any).free(memory, class.bytes(), Class::ALIGN),
                Source::Block => lock(&self.blocks).give_back(memory),
                Source::Any => lock(&self.any).free(memory, layout.size(), layout.align()),
            }
        }
    }

    #[inline(never)]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller guarantees that the size, rounded up to the alignment, is no overflow.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (Source::of(layout), Source::of(new)) {
            // SAFETY: it is from there, with this size and alignment, and stays there.
            (Source::Any, Source::Any) => unsafe {
                lock(&self.any).realloc(memory, layout.size(), layout.align(), size)
            },
            (old, new) if old == new => memory,
            // SAFETY: both places are valid for the smaller size, and the new one overlaps with none. The old one is given
            // back where it is from.
            _ => unsafe {
                let moved = self.alloc(new);
                if !moved.is_null() {
                    ptr::copy_nonoverlapping(memory, moved, layout.size().min(size));
                    self.dealloc(memory, layout);
                }
                moved
            },
        }
    }
}

// === impl Source ===

impl Source {
    #[inline]
    fn of(layout: Layout) -> Self {
        match Class::of(layout) {
            Some(class) => Self::Small(class),
            None if Blocks::fit(layout) => Self::Block,
            None => Self::Any,
        }
    }
}

#[cfg(test)]
mod tests;
