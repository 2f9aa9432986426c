//! A cache of small memory for one thread: what it gives back it takes again without a lock.
//!
//! It belongs to the first thread that asks, and in a process of ours that is the one which does all the work. The others
//! (the log's, and those that look up names) are not worth caches of their own, which would be lost when they end.

use std::{
    alloc::Layout,
    cell::UnsafeCell,
    ptr,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::list::List;

/// Size classes are so far apart, and nothing in one is aligned to more, in bytes. `dlmalloc`'s pieces are as far apart.
const STEP_BYTES: usize = 16;

/// What `dlmalloc` needs of a piece for itself, in bytes: the classes are what is left.
const OVERHEAD_BYTES: usize = 8;

/// The largest class is of 632 bytes: those of a small map of headers, the client's (544) and hyper's (624), are in it.
const CLASSES: usize = 41;

/// How much of each class is kept, in bytes: what some hundred callers who come and go together need.
const MAX_BYTES: usize = 256 * 1024;

/// A size that small memory is rounded up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class(usize);

/// What is there of each class.
pub(super) struct Cache {
    /// The thread that it belongs to, if it does to any.
    owner: AtomicUsize,
    /// Only the owner's.
    lists: UnsafeCell<[List; CLASSES]>,
}

// SAFETY: what it has is only touched by the thread whose name is in `owner`, and that is written once.
#[expect(unsafe_code, reason = "that it belongs to one thread is known at run time")]
unsafe impl Sync for Cache {}

// === impl Class ===

impl Class {
    /// What its memory is aligned to, in bytes.
    pub(super) const ALIGN: usize = STEP_BYTES;

    /// The class of this layout, unless it is too large, or aligned to more.
    #[inline]
    pub(super) fn of(layout: Layout) -> Option<Self> {
        let class = layout.size().saturating_add(OVERHEAD_BYTES).div_ceil(STEP_BYTES);
        (class < CLASSES && layout.align() <= STEP_BYTES).then_some(Self(class))
    }

    /// How large memory of it is. Never less than an address: the least that can be asked for is one byte.
    #[inline]
    pub(super) fn bytes(self) -> usize {
        self.0 * STEP_BYTES - OVERHEAD_BYTES
    }
}

// === impl Cache ===

impl Cache {
    pub(super) const fn new() -> Self {
        Self {
            owner: AtomicUsize::new(0),
            lists: UnsafeCell::new([const { List::EMPTY }; CLASSES]),
        }
    }

    /// Memory of a class, if there is some for this thread.
    #[inline]
    pub(super) fn take(&self, class: Class) -> Option<*mut u8> {
        self.list(class)?.pop()
    }

    /// Takes memory back; `false` if it is not for this thread, or there is enough.
    ///
    /// # Safety
    /// It has the size of its class, and nobody uses it any more.
    #[inline]
    #[expect(unsafe_code, reason = "the list is in the memory itself")]
    pub(super) unsafe fn give_back(&self, class: Class, memory: *mut u8) -> bool {
        match self.list(class) {
            Some(list) if list.len() * class.bytes() < MAX_BYTES => {
                // SAFETY: the caller's.
                unsafe { list.push(memory) };
                true
            }
            _ => false,
        }
    }

    #[inline]
    #[expect(clippy::mut_from_ref, reason = "one thread has it, one call at a time")]
    #[expect(unsafe_code, reason = "that it belongs to one thread is known at run time")]
    fn list(&self, class: Class) -> Option<&mut List> {
        if !self.is_ours() {
            return None;
        }
        // SAFETY: no other thread comes here, and this one does not come again before it has done what it wants with a list:
        // nothing in this file allocates.
        unsafe { (*self.lists.get()).get_mut(class.0) }
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
