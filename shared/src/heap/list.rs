//! Memory that was given back: each piece begins with the address of the next, and the last one is the first to go again.

use std::ptr;

/// A list of pieces of one size.
pub(super) struct List {
    first: *mut Free,
    len: usize,
}

struct Free {
    next: *mut Free,
}

// === impl List ===

impl List {
    pub(super) const EMPTY: Self = Self {
        first: ptr::null_mut(),
        len: 0,
    };

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    #[expect(unsafe_code, reason = "the list is in the memory itself")]
    pub(super) fn pop(&mut self) -> Option<*mut u8> {
        let first = self.first;
        if first.is_null() {
            return None;
        }
        // SAFETY: it was given back, and since then nobody has written to it.
        self.first = unsafe { (*first).next };
        prefetch(self.first);
        self.len -= 1;
        Some(first.cast())
    }

    /// # Safety
    /// It is large enough for an address and aligned for one, and nobody uses it any more.
    #[inline]
    #[expect(unsafe_code, reason = "the list is in the memory itself")]
    pub(super) unsafe fn push(&mut self, memory: *mut u8) {
        let first: *mut Free = memory.cast();
        // SAFETY: the caller's.
        unsafe { first.write(Free { next: self.first }) };
        self.first = first;
        self.len += 1;
    }
}

/// The next [`List::pop`] reads the beginning of this piece, and after a crowd that is in no cache any more.
#[inline]
#[cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "an intrinsic"))]
fn prefetch(piece: *const Free) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every such processor has the instruction, and it faults on no address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(piece.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = piece;
}
