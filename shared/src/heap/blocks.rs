//! Blocks of one size, aligned to pages, for the buffers of connections.
//!
//! hyper takes two of 8 KiB for each connection, and of most only the first few hundred bytes are ever used. What is given
//! back waits for the next connection, the last one first, and is not given back to the system.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    ptr,
};

use super::list::List;

/// The size of a block: what hyper's and tokio's buffers begin with, in bytes.
pub(super) const BLOCK_BYTES: usize = 8 * 1024;

/// The system gives so many at once.
const CHUNK_BLOCKS: usize = 64;

/// The start of a block in a page, in bytes.
const PAGE_BYTES: usize = 4 * 1024;

/// What is there of them.
pub(super) struct Blocks {
    /// Given back.
    free: List,
    /// The rest of the last chunk.
    fresh: *mut u8,
    fresh_count: usize,
}

// SAFETY: the addresses are of memory that is nobody else's, and no thread's own.
#[expect(unsafe_code, reason = "a pointer says nothing about threads")]
unsafe impl Send for Blocks {}

// === impl Blocks ===

impl Blocks {
    pub(super) const fn new() -> Self {
        Self {
            free: List::EMPTY,
            fresh: ptr::null_mut(),
            fresh_count: 0,
        }
    }

    /// Whether memory of this layout is a block.
    pub(super) fn fit(layout: Layout) -> bool {
        layout.size() == BLOCK_BYTES && layout.align() <= PAGE_BYTES
    }

    /// A block; null if the system has none.
    pub(super) fn take(&mut self) -> *mut u8 {
        if let Some(block) = self.free.pop() {
            return block;
        }
        if self.fresh_count == 0 {
            self.fresh = chunk();
            if self.fresh.is_null() {
                return ptr::null_mut();
            }
            self.fresh_count = CHUNK_BLOCKS;
        }
        let block = self.fresh;
        self.fresh = block.wrapping_add(BLOCK_BYTES);
        self.fresh_count -= 1;
        block
    }

    /// Takes a block back.
    ///
    /// # Safety
    /// It was taken from here, and nobody uses it any more.
    #[expect(unsafe_code, reason = "the list is in the blocks themselves")]
    pub(super) unsafe fn give_back(&mut self, block: *mut u8) {
        // SAFETY: it is ours, and large and aligned enough.
        unsafe { self.free.push(block) };
    }
}

/// The system's own allocator maps what is so large.
fn chunk() -> *mut u8 {
    const LAYOUT: Layout = match Layout::from_size_align(CHUNK_BLOCKS * BLOCK_BYTES, PAGE_BYTES) {
        Ok(layout) => layout,
        Err(_) => panic!("the size is a multiple of the alignment, which is a power of two"),
    };
    // SAFETY: its size is not zero.
    #[expect(unsafe_code, reason = "so is every other way to the system's memory")]
    unsafe {
        System.alloc(LAYOUT)
    }
}
