#![expect(unsafe_code, reason = "that is how an allocator is used")]

use proptest::prelude::*;

use super::{blocks::BLOCK_BYTES, *};

/// What is allocated, with the byte that fills it.
struct Piece {
    memory: *mut u8,
    layout: Layout,
    byte: u8,
}

impl Piece {
    fn new(heap: &Heap, size: usize, align: usize, byte: u8, zeroed: bool) -> Self {
        let layout = Layout::from_size_align(size, align).unwrap();
        // SAFETY: the size is not zero.
        let memory = unsafe {
            if zeroed {
                heap.alloc_zeroed(layout)
            } else {
                heap.alloc(layout)
            }
        };
        assert!(!memory.is_null() && memory.addr().is_multiple_of(align));
        let mut piece = Self {
            memory,
            layout,
            byte: 0,
        };
        if zeroed {
            piece.check(size);
        }
        piece.fill(byte);
        piece
    }

    fn fill(&mut self, byte: u8) {
        self.byte = byte;
        // SAFETY: it has that size.
        unsafe { ptr::write_bytes(self.memory, byte, self.layout.size()) };
    }

    /// Its first bytes are as they were left.
    fn check(&self, bytes: usize) {
        // SAFETY: they are there, and were written.
        let bytes = unsafe { std::slice::from_raw_parts(self.memory, bytes) };
        assert!(bytes.iter().all(|it| *it == self.byte));
    }

    fn resize(&mut self, heap: &Heap, size: usize, byte: u8) {
        // SAFETY: it is from there, with this layout, and the size is not zero.
        self.memory = unsafe { heap.realloc(self.memory, self.layout, size) };
        assert!(!self.memory.is_null() && self.memory.addr().is_multiple_of(self.layout.align()));
        let kept = size.min(self.layout.size());
        self.layout = Layout::from_size_align(size, self.layout.align()).unwrap();
        self.check(kept);
        self.fill(byte);
    }

    fn free(self, heap: &Heap) {
        self.check(self.layout.size());
        // SAFETY: it is from there, with this layout.
        unsafe { heap.dealloc(self.memory, self.layout) };
    }
}

/// Sizes around those that are blocks, and any.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        1..200_usize,
        1..100_000_usize,
        Just(BLOCK_BYTES),
        Just(BLOCK_BYTES),
        Just(BLOCK_BYTES - 1),
        Just(BLOCK_BYTES + 1)
    ]
}

#[derive(Debug, Clone)]
enum Step {
    Take(usize, u32, bool),
    Resize(prop::sample::Index, usize),
    Free(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        3 => (size(), 0..14_u32, any::<bool>()).prop_map(|(size, align, zeroed)| Step::Take(size, align, zeroed)),
        2 => (index(), size()).prop_map(|(index, size)| Step::Resize(index, size)),
        2 => index().prop_map(Step::Free),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nobody_writes_to_what_is_anothers(steps in prop::collection::vec(step(), 1..300)) {
        let heap = Heap::new();
        let mut pieces: Vec<Piece> = Vec::new();
        for (step, byte) in steps.into_iter().zip((1..=u8::MAX).cycle()) {
            match step {
                Step::Take(size, align, zeroed) => pieces.push(Piece::new(&heap, size, 1 << align, byte, zeroed)),
                Step::Resize(index, size) if !pieces.is_empty() => {
                    let index = index.index(pieces.len());
                    pieces[index].resize(&heap, size, byte);
                }
                Step::Free(index) if !pieces.is_empty() => {
                    pieces.swap_remove(index.index(pieces.len())).free(&heap);
                }
                Step::Resize(..) | Step::Free(_) => {}
            }
        }
        pieces.into_iter().for_each(|it| it.free(&heap));
    }
}

#[test]
fn a_block_that_was_given_back_is_the_next_one() {
    let heap = Heap::new();
    let piece = |byte| Piece::new(&heap, BLOCK_BYTES, 1, byte, false);
    let (first, second) = (piece(1), piece(2));
    let places = [first.memory, second.memory];
    second.free(&heap);
    first.free(&heap);
    let again = [piece(3), piece(4)];
    assert_eq!(again.each_ref().map(|it| it.memory), places);
    assert!(places.iter().all(|it| it.addr().is_multiple_of(4096)));
    again.into_iter().for_each(|it| it.free(&heap));
}

#[test]
fn small_memory_goes_back_to_the_thread_that_has_the_cache() {
    let heap = Heap::new();
    let piece = |size, byte| Piece::new(&heap, size, 8, byte, false);
    let first = piece(20, 1);
    let place = first.memory.addr();
    first.free(&heap);
    std::thread::scope(|threads| {
        let other = threads.spawn(|| {
            let piece = piece(20, 2);
            let place = piece.memory.addr();
            piece.free(&heap);
            place
        });
        assert_ne!(other.join().unwrap(), place);
    });
    // Of the same class.
    let second = piece(24, 3);
    assert_eq!(second.memory.addr(), place);
    second.free(&heap);
}

#[test]
fn small_memory_that_another_thread_took_is_as_large() {
    let heap = Heap::new();
    // The cache is this thread's.
    Piece::new(&heap, 1, 1, 1, false).free(&heap);
    for size in 1..600 {
        let address = std::thread::scope(|threads| {
            let other = threads.spawn(|| Piece::new(&heap, size, 16, 2, false).memory.expose_provenance());
            other.join().unwrap()
        });
        let memory = ptr::with_exposed_provenance_mut(address);
        let layout = Layout::from_size_align(size, 16).unwrap();
        let byte = 2;
        Piece { memory, layout, byte }.free(&heap);
        let largest = Class::of(layout).map_or(size, Class::bytes);
        let (again, beside) = (
            Piece::new(&heap, largest, 16, 3, true),
            Piece::new(&heap, largest, 16, 4, true),
        );
        again.free(&heap);
        beside.free(&heap);
    }
}
