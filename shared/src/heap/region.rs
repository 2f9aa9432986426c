//! The addresses of the slabs: reserved at once, and there when they are touched.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

use super::slabs::{ALL_BYTES, Slabs};

/// One range of addresses; none before it is reserved, or where the system refused it.
pub(super) struct Region {
    base: AtomicPtr<u8>,
}

// === impl Region ===

impl Region {
    pub(super) const fn new() -> Self {
        Self {
            base: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Asks the system for the addresses, and for what says which of them are free. To be called once.
    pub(super) fn reserve(&self) -> Option<&'static mut Slabs> {
        const ALL: Layout = match Layout::from_size_align(ALL_BYTES, 4096) {
            Ok(layout) => layout,
            Err(_) => panic!("the size is a multiple of the alignment, which is a power of two"),
        };
        // SAFETY: neither size is zero, and what is large the system maps: it is there when it is touched. Slabs are numbers,
        // which may be zero, and nobody else knows of them.
        #[expect(unsafe_code, reason = "so is every other way to the system's memory")]
        unsafe {
            let slabs: *mut Slabs = System.alloc_zeroed(Layout::new::<Slabs>()).cast();
            if slabs.is_null() {
                return None;
            }
            let base = System.alloc(ALL);
            self.base.store(base, Ordering::Relaxed);
            (!base.is_null()).then(|| &mut *slabs)
        }
    }

    /// Of what is so far from the beginning.
    #[inline]
    pub(super) fn address(&self, offset: usize) -> *mut u8 {
        self.base().wrapping_add(offset)
    }

    /// How far from the beginning it is, if it is in here.
    #[inline]
    pub(super) fn offset(&self, memory: *mut u8) -> Option<usize> {
        let base = self.base();
        let offset = memory.addr().wrapping_sub(base.addr());
        (offset < ALL_BYTES && !base.is_null()).then_some(offset)
    }

    #[inline]
    fn base(&self) -> *mut u8 {
        // Whoever has memory from here got it after this was written.
        self.base.load(Ordering::Relaxed)
    }
}
