use std::{ptr, thread};

use super::*;

/// An allocated block, filled with a byte that identifies it.
struct Block<'a> {
    allocator: &'a Allocator,
    memory: *mut u8,
    layout: Layout,
    content: u8,
}

impl<'a> Block<'a> {
    fn new(allocator: &'a Allocator, size: usize, align: usize, content: u8) -> Self {
        let layout = Layout::from_size_align(size, align).unwrap();
        // SAFETY: the size is not zero.
        let memory = unsafe { allocator.alloc(layout) };
        assert!(!memory.is_null());
        assert_eq!(memory.addr() % align, 0);
        // SAFETY: the block has this size.
        unsafe { ptr::write_bytes(memory, content, size) };
        Self {
            allocator,
            memory,
            layout,
            content,
        }
    }

    fn resize(&mut self, size: usize) {
        // SAFETY: the block is from this allocator, with this layout.
        self.memory = unsafe { self.allocator.realloc(self.memory, self.layout, size) };
        assert!(!self.memory.is_null());
        let kept = self.layout.size().min(size);
        self.layout = Layout::from_size_align(size, self.layout.align()).unwrap();
        self.assert_content(kept);
        // SAFETY: the block has this size.
        unsafe { ptr::write_bytes(self.memory, self.content, size) };
    }

    fn assert_content(&self, size: usize) {
        // SAFETY: the first `size` bytes of the block are initialized.
        let bytes = unsafe { std::slice::from_raw_parts(self.memory, size) };
        assert!(bytes.iter().all(|byte| *byte == self.content));
    }
}

impl Drop for Block<'_> {
    fn drop(&mut self) {
        self.assert_content(self.layout.size());
        // SAFETY: the block is from this allocator, with this layout, and not used afterwards.
        unsafe { self.allocator.dealloc(self.memory, self.layout) };
    }
}

#[test]
fn blocks_do_not_overlap() {
    let allocator = Allocator::new();
    // Miri is slow: its sizes are short.
    let sizes = if cfg!(miri) {
        [1, 8, 24, 100, 200, 300, 1_000]
    } else {
        [1, 8, 24, 100, 4_096, 70_000, 300_000]
    };
    let mut blocks: Vec<_> = (0..60_usize)
        .map(|n| {
            Block::new(
                &allocator,
                sizes[n % sizes.len()],
                1 << (n % 8),
                u8::try_from(n).unwrap(),
            )
        })
        .collect();
    for (n, block) in blocks.iter_mut().enumerate() {
        block.resize(sizes[(n + 3) % sizes.len()]);
    }
    // Free every other block: the next allocations reuse the gaps.
    let mut keep = false;
    blocks.retain(|_| {
        keep = !keep;
        keep
    });
    blocks.extend((60..90).map(|n| Block::new(&allocator, 500, 16, n)));
}

#[test]
fn alloc_zeroed_clears_reused_memory() {
    let allocator = Allocator::new();
    for size in [16, 1_000, if cfg!(miri) { 2_000 } else { 100_000 }] {
        drop(Block::new(&allocator, size, 8, 0xff));
        let layout = Layout::from_size_align(size, 8).unwrap();
        // SAFETY: the size is not zero, the block has this size, and it is freed with its layout.
        unsafe {
            let memory = allocator.alloc_zeroed(layout);
            assert!(std::slice::from_raw_parts(memory, size).iter().all(|byte| *byte == 0));
            allocator.dealloc(memory, layout);
        }
    }
}

#[test]
fn threads_resize_and_free_blocks_of_other_threads() {
    static ALLOCATOR: Allocator = Allocator::new();
    struct SendBlock(Block<'static>);
    // SAFETY: the allocator is behind a lock, and a block has one owner.
    unsafe impl Send for SendBlock {}

    let rounds = if cfg!(miri) { 20 } else { 2_000 };
    let (sender, receiver) = std::sync::mpsc::sync_channel::<SendBlock>(16);
    let allocating = thread::spawn(move || {
        for n in 0..rounds {
            sender
                .send(SendBlock(Block::new(
                    &ALLOCATOR,
                    1 + n * 7 % 3_000,
                    8,
                    n.to_le_bytes()[0],
                )))
                .unwrap();
        }
    });
    for SendBlock(mut block) in receiver {
        block.resize(64);
    }
    allocating.join().unwrap();
}
