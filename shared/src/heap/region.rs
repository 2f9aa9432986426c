//! The addresses of the slabs: reserved at once, and memory when they are touched.

use std::{
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

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

    /// Asks the system for the addresses, and gives what says which of them are free. Once: later there is nothing.
    pub(super) fn reserve(&self) -> Option<&'static mut Slabs> {
        // What is free is told behind the slabs.
        const BYTES: usize = ALL_BYTES + size_of::<Slabs>();
        const { assert!(ALL_BYTES.is_multiple_of(align_of::<Slabs>())) };
        if !self.base().is_null() {
            return None;
        }
        let (access, flags) = (
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        );
        // SAFETY: the addresses are new, and zero. Slabs are numbers, which may be zero, and nobody else knows of them.
        #[expect(unsafe_code, reason = "so is every other way to the system's memory")]
        unsafe {
            let base = mmap_anonymous(ptr::null_mut(), BYTES, access, flags).ok()?;
            // One byte is not to make 2 MiB of memory where the system would rather have large pages. A kernel without them
            // refuses, and need not be asked.
            let _ = madvise(base, BYTES, Advice::LinuxNoHugepage);
            self.base.store(base.cast(), Ordering::Relaxed);
            Some(&mut *base.byte_add(ALL_BYTES).cast())
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
