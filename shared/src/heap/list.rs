//! Memory that was given back: each piece begins with the address of the next.

use std::ptr;

/// A list of pieces, large enough and aligned for an address.
pub(super) struct List {
    first: *mut Free,
}

struct Free {
    next: *mut Free,
}

// SAFETY: the addresses are of memory that is nobody else's, and no thread's own.
#[expect(unsafe_code, reason = "a pointer says nothing about threads")]
unsafe impl Send for List {}

// === impl List ===

impl List {
    pub(super) const EMPTY: Self = Self { first: ptr::null_mut() };

    #[inline]
    #[expect(unsafe_code, reason = "the list is in the memory itself")]
    pub(super) fn pop(&mut self) -> Option<*mut u8> {
        let first = self.first;
        if first.is_null() {
            return None;
        }
        // SAFETY: it was given back, and since then nobody has written to it.
        self.first = unsafe { (*first).next };
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
    }
}
