//! The memory of the static binaries: musl's own allocator costs half as much processor time again.
//!
//! - The algorithm is `dlmalloc`'s. Its own lock is one of pthread's, which took a twelfth of the gateway's time; a
//!   [`Mutex`] is a small part of that.
//! - Small memory and the buffers of connections come from slabs, which need no lock, if they are asked for by the thread that
//!   does all the work.
//! - The code is not copied to wherever memory is asked for: that would be more than a hundred kilobytes.

#![allow(
    clippy::disallowed_types,
    reason = "the lock of parking_lot allocates where threads meet"
)]

mod bits;
mod list;
mod owned;
mod region;
mod slabs;

use std::{
    alloc::{GlobalAlloc, Layout},
    ptr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use dlmalloc::Dlmalloc;

use self::{
    list::List,
    owned::Owned,
    region::Region,
    slabs::{Class, Slabs},
};

/// A global allocator.
pub struct Heap {
    any: Mutex<Dlmalloc>,
    slabs: Owned<Reservation>,
    /// Where they are.
    region: Region,
    /// Pieces that other threads gave back.
    returned: Mutex<List>,
}

/// The slabs are reserved when they are first asked for.
enum Reservation {
    None,
    Done(&'static mut Slabs),
    Refused,
}

// === impl Heap ===

impl Heap {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            any: Mutex::new(Dlmalloc::new()),
            slabs: Owned::new(Reservation::None),
            region: Region::new(),
            returned: Mutex::new(List::EMPTY),
        }
    }

    /// A piece of a slab, if there is one for this thread.
    #[inline]
    #[expect(unsafe_code, reason = "what belongs to one thread is asked for one at a time")]
    fn take_piece(&self, class: Class) -> Option<*mut u8> {
        // SAFETY: nothing here allocates from this heap.
        let slabs = unsafe { self.slabs.get() }?;
        let offset = match slabs {
            Reservation::Done(slabs) => slabs.take(class),
            _ => None,
        };
        let offset = match offset {
            Some(offset) => offset,
            None => self.take_from_next(slabs, class)?,
        };
        Some(self.region.address(offset))
    }

    #[cold]
    fn take_from_next(&self, slabs: &mut Reservation, class: Class) -> Option<usize> {
        if let Reservation::None = slabs {
            *slabs = self.region.reserve().map_or(Reservation::Refused, Reservation::Done);
        }
        let Reservation::Done(slabs) = slabs else {
            return None;
        };
        let mut returned = lock(&self.returned);
        while let Some(piece) = returned.pop() {
            if let Some(offset) = self.region.offset(piece) {
                slabs.give_back(offset);
            }
        }
        slabs.take(class).or_else(|| slabs.take_from_next(class))
    }

    /// Takes a piece of a slab back; `false` if it is none.
    ///
    /// # Safety
    /// It is from here, and nobody uses it any more.
    #[inline]
    #[expect(unsafe_code, reason = "the list of what is returned is in the pieces themselves")]
    unsafe fn give_back_piece(&self, memory: *mut u8) -> bool {
        let Some(offset) = self.region.offset(memory) else {
            return false;
        };
        // SAFETY: nothing here allocates from this heap. The smallest piece has room for an address, and is aligned for one.
        unsafe {
            match self.slabs.get() {
                Some(Reservation::Done(slabs)) => slabs.give_back(offset),
                _ => lock(&self.returned).push(memory),
            }
        }
        true
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

// SAFETY: memory is given, moved and taken back by `Dlmalloc`, whose contract is that of this trait, or it is a piece of a slab,
// which has the size and alignment of its class. `Dlmalloc` is behind a lock, under which nothing allocates from here, and
// the slabs are one thread's. Nothing unwinds.
#[expect(unsafe_code, reason = "an allocator is unsafe by its contract")]
unsafe impl GlobalAlloc for Heap {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if let Some(piece) = Class::of(layout).and_then(|it| self.take_piece(it)) {
            return piece;
        }
        // SAFETY: the caller keeps the same contract.
        unsafe { lock(&self.any).malloc(bytes(layout), layout.align()) }
    }

    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the same contract. What is not null has the layout's size, and is nobody's yet.
        unsafe {
            if Class::of(layout).is_none() {
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
        // SAFETY: it is from here, with this size and alignment, and nobody's from now on.
        unsafe {
            if !self.give_back_piece(memory) {
                lock(&self.any).free(memory, bytes(layout), layout.align());
            }
        }
    }

    #[inline(never)]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller guarantees that the size, rounded up to the alignment, is no overflow.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (Class::of(layout), Class::of(new)) {
            // SAFETY: it is from there, with this size and alignment, and stays there.
            (None, None) => unsafe { lock(&self.any).realloc(memory, layout.size(), layout.align(), size) },
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

/// How much is asked of `dlmalloc`: within its class memory may grow where it is.
fn bytes(layout: Layout) -> usize {
    Class::of(layout).map_or(layout.size(), Class::bytes)
}

#[cfg(test)]
mod tests;
