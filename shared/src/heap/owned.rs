//! What belongs to one thread, and needs no lock.
//!
//! It is the first one that asks, and in a process of ours that is the one which does all the work. The others (the log's,
//! and those that look up names) are not worth one of their own, which would be lost when they end.

use std::{
    cell::UnsafeCell,
    ptr,
    sync::atomic::{AtomicUsize, Ordering},
};

/// Something of the first thread that asks for it, which has to live as long.
pub(super) struct Owned<T> {
    /// The owner, if there is one.
    owner: AtomicUsize,
    of_owner: UnsafeCell<T>,
}

// SAFETY: what it has is only touched by the thread whose name is in `owner`, and that is written once.
#[expect(unsafe_code, reason = "that it belongs to one thread is known at run time")]
unsafe impl<T: Send> Sync for Owned<T> {}

// === impl Owned ===

impl<T> Owned<T> {
    pub(super) const fn new(it: T) -> Self {
        Self {
            owner: AtomicUsize::new(0),
            of_owner: UnsafeCell::new(it),
        }
    }

    /// What it is, for its owner.
    ///
    /// # Safety
    /// Nothing is done with it until the last one is gone: no call allocates, or comes back here.
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "one thread has it, one call at a time")]
    #[expect(unsafe_code, reason = "that it belongs to one thread is known at run time")]
    pub(super) unsafe fn get(&self) -> Option<&mut T> {
        if !self.is_ours() {
            return None;
        }
        // SAFETY: no other thread comes here, and this one does not come again before it has done what it wants with it.
        Some(unsafe { &mut *self.of_owner.get() })
    }

    #[inline]
    fn is_ours(&self) -> bool {
        let owner = self.owner.load(Ordering::Relaxed);
        owner == this_thread() || (owner == 0 && self.claim())
    }

    #[cold]
    fn claim(&self) -> bool {
        let relaxed = Ordering::Relaxed;
        self.owner.compare_exchange(0, this_thread(), relaxed, relaxed).is_ok()
    }
}

/// A name of this thread, never 0, that no other has while it lives.
#[inline]
fn this_thread() -> usize {
    // Constant and without a destructor: to ask for its place allocates nothing.
    thread_local!(static PLACE: u8 = const { 0 });
    PLACE.with(|place| ptr::from_ref(place).addr())
}
