#![expect(unsafe_code, reason = "that is how an allocator is used")]

use proptest::prelude::*;

use super::{slabs::BUFFER_BYTES, *};

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

/// Sizes around the bounds of the classes, and any.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        1..200_usize,
        900..1_100_usize,
        1..100_000_usize,
        Just(BUFFER_BYTES),
        Just(BUFFER_BYTES),
        Just(BUFFER_BYTES - 1),
        Just(BUFFER_BYTES + 1)
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
        static HEAP: Heap = Heap::new();
        let heap = &HEAP;
        let mut pieces: Vec<Piece> = Vec::new();
        for (step, byte) in steps.into_iter().zip((1..=u8::MAX).cycle()) {
            match step {
                Step::Take(size, align, zeroed) => pieces.push(Piece::new(heap, size, 1 << align, byte, zeroed)),
                Step::Resize(index, size) if !pieces.is_empty() => {
                    let index = index.index(pieces.len());
                    pieces[index].resize(heap, size, byte);
                }
                Step::Free(index) if !pieces.is_empty() => {
                    pieces.swap_remove(index.index(pieces.len())).free(heap);
                }
                Step::Resize(..) | Step::Free(_) => {}
            }
        }
        pieces.into_iter().for_each(|it| it.free(heap));
    }
}

#[test]
fn a_buffer_that_was_given_back_is_the_next_one() {
    static HEAP: Heap = Heap::new();
    let heap = &HEAP;
    let piece = |byte| Piece::new(heap, BUFFER_BYTES, 1, byte, false);
    let (first, second) = (piece(1), piece(2));
    let places = [first.memory, second.memory];
    second.free(heap);
    first.free(heap);
    let again = [piece(3), piece(4)];
    assert_eq!(again.each_ref().map(|it| it.memory), places);
    assert!(places.iter().all(|it| it.addr().is_multiple_of(4096)));
    again.into_iter().for_each(|it| it.free(heap));
}

/// So many pieces of a size.
fn take_many(heap: &Heap, size: usize, count: usize) -> Vec<Piece> {
    (0..count).map(|_| Piece::new(heap, size, 8, 7, false)).collect()
}

#[test]
fn few_are_close_together_after_a_crowd() {
    static HEAP: Heap = Heap::new();
    let heap = &HEAP;
    let pages = |pieces: &[Piece]| {
        let pages: std::collections::HashSet<_> = pieces.iter().map(|it| it.memory.addr() / 4096).collect();
        pages.len()
    };
    let before = take_many(heap, 64, 256);
    let few = pages(&before);
    before.into_iter().for_each(|it| it.free(heap));
    // They go as they like; every hundredth stays.
    let mut crowd = take_many(heap, 64, 20_000);
    fastrand::Rng::with_seed(7).shuffle(&mut crowd);
    let staying: Vec<_> = crowd.drain(..200).collect();
    crowd.into_iter().for_each(|it| it.free(heap));
    let after = take_many(heap, 64, 256);
    assert!(pages(&after) <= few + 1, "{} pages, {few} before", pages(&after));
    staying.into_iter().chain(after).for_each(|it| it.free(heap));
}

#[test]
fn whatever_was_given_back_is_found() {
    static HEAP: Heap = Heap::new();
    let heap = &HEAP;
    let mut pieces = take_many(heap, 200, 5_000);
    fastrand::Rng::with_seed(7).shuffle(&mut pieces);
    let staying = pieces.split_off(1_000);
    let places = |pieces: &[Piece]| {
        let mut places: Vec<_> = pieces.iter().map(|it| it.memory.addr()).collect();
        places.sort_unstable();
        places
    };
    let free = places(&pieces);
    pieces.into_iter().for_each(|it| it.free(heap));
    let again = take_many(heap, 200, 1_000);
    assert_eq!(
        places(&again)[..900],
        free[..900],
        "the last slab has free pieces as well"
    );
    staying.into_iter().chain(again).for_each(|it| it.free(heap));
}

#[test]
fn what_one_size_does_not_need_is_for_another() {
    static HEAP: Heap = Heap::new();
    let heap = &HEAP;
    let highest = |pieces: &[Piece]| pieces.iter().map(|it| it.memory.addr()).max();
    let first = take_many(heap, 1_000, 2_000);
    let end = highest(&first);
    // In both directions: the lowest slab of a size is not given up, and it is another one each time.
    first.into_iter().rev().for_each(|it| it.free(heap));
    let second = take_many(heap, 504, 3_500);
    assert!(highest(&second) <= end);
    second.into_iter().for_each(|it| it.free(heap));
    let third = take_many(heap, 1_000, 1_900);
    assert!(highest(&third) <= end);
    third.into_iter().for_each(|it| it.free(heap));
}

#[test]
fn a_hundred_sizes_one_after_the_other_need_as_much_as_one() {
    static HEAP: Heap = Heap::new();
    let heap = &HEAP;
    let mut places = Vec::new();
    for size in (200..1_000).step_by(8) {
        let pieces = take_many(heap, size, 50);
        places.extend(pieces.iter().map(|it| it.memory.addr()));
        pieces.into_iter().for_each(|it| it.free(heap));
    }
    let bytes = places.iter().max().unwrap() - places.iter().min().unwrap();
    assert!(bytes < 256 * 1024, "{bytes}");
}

#[test]
fn the_slabs_of_buffers_stay_theirs() {
    static HEAP: Heap = Heap::new();
    let heap = &HEAP;
    let buffers = take_many(heap, BUFFER_BYTES, 100);
    let places: Vec<_> = buffers.iter().map(|it| it.memory).collect();
    buffers.into_iter().for_each(|it| it.free(heap));
    let small = take_many(heap, 1_000, 500);
    let is_in = |piece: &Piece| {
        places
            .iter()
            .any(|it| piece.memory.addr().abs_diff(it.addr()) < BUFFER_BYTES)
    };
    assert!(small.iter().all(|it| !is_in(it)));
    let buffers = take_many(heap, BUFFER_BYTES, 100);
    assert!(buffers.iter().all(|it| places.contains(&it.memory)));
    small.into_iter().chain(buffers).for_each(|it| it.free(heap));
}

#[test]
fn when_nothing_is_left_what_comes_back_is_anybodys() {
    let slabs = Region::new().reserve().unwrap();
    let class = |bytes| Class::of(Layout::from_size_align(bytes, 8).unwrap()).unwrap();
    let (buffer, small) = (class(BUFFER_BYTES), class(1_000));
    let take = |slabs: &mut Slabs, class| slabs.take(class).or_else(|| slabs.take_from_next(class));
    let all: Vec<_> = std::iter::from_fn(|| take(slabs, buffer)).collect();
    assert_eq!(all.len(), 16383 * 4);
    assert_eq!((take(slabs, buffer), take(slabs, small)), (None, None));
    slabs.give_back(all[70]);
    assert_eq!(take(slabs, buffer), Some(all[70]));
    all.iter().for_each(|it| slabs.give_back(*it));
    assert!(take(slabs, small).is_some());
}

#[test]
fn small_memory_is_the_first_threads() {
    static HEAP: Heap = Heap::new();
    let heap = &HEAP;
    let piece = |size, byte| Piece::new(heap, size, 8, byte, false);
    let first = piece(20, 1);
    let place = first.memory.addr();
    first.free(heap);
    std::thread::scope(|threads| {
        let other = threads.spawn(|| {
            let piece = piece(20, 2);
            let place = piece.memory.addr();
            piece.free(heap);
            place
        });
        assert_ne!(other.join().unwrap(), place);
    });
    // Of the same class.
    let second = piece(24, 3);
    assert_eq!(second.memory.addr(), place);
    second.free(heap);
}

#[test]
fn what_another_thread_gives_back_is_used_again() {
    static HEAP: Heap = Heap::new();
    let heap = &HEAP;
    let all = take_many(heap, 1_024, 1_000);
    let places: Vec<_> = all.iter().map(|it| it.memory.expose_provenance()).collect();
    let given = places.clone();
    all.into_iter().for_each(std::mem::forget);
    std::thread::scope(|threads| {
        threads.spawn(move || {
            for place in given {
                let memory = ptr::with_exposed_provenance_mut(place);
                let layout = Layout::from_size_align(1_024, 8).unwrap();
                Piece {
                    memory,
                    layout,
                    byte: 7,
                }
                .free(heap);
            }
        });
    });
    let again = take_many(heap, 1_024, 1_000);
    let new = again.iter().filter(|it| !places.contains(&it.memory.addr())).count();
    assert!(new < 64, "{new}: the last slab may have had some left");
    again.into_iter().for_each(|it| it.free(heap));
}

#[test]
fn without_slabs_there_is_memory_all_the_same() {
    static HEAP: Heap = Heap {
        slabs: Owned::new(Reservation::Refused),
        ..Heap::new()
    };
    let heap = &HEAP;
    let pieces: Vec<_> = [1, 20, 1_024, BUFFER_BYTES, 100_000]
        .into_iter()
        .flat_map(|size| take_many(heap, size, 10))
        .collect();
    assert!(pieces.iter().all(|it| heap.region.offset(it.memory).is_none()));
    pieces.into_iter().for_each(|it| it.free(heap));
}

#[test]
fn small_memory_that_another_thread_took_is_as_large() {
    static HEAP: Heap = Heap::new();
    let heap = &HEAP;
    // The slabs are this thread's.
    Piece::new(heap, 1, 1, 1, false).free(heap);
    let addresses = std::thread::scope(|threads| {
        let other = threads.spawn(|| {
            let piece = |size| Piece::new(heap, size, 16, 2, false).memory.expose_provenance();
            (1..1_100).map(piece).collect::<Vec<_>>()
        });
        other.join().unwrap()
    });
    for (size, address) in (1..).zip(addresses) {
        let memory = ptr::with_exposed_provenance_mut(address);
        let layout = Layout::from_size_align(size, 16).unwrap();
        let mut piece = Piece {
            memory,
            layout,
            byte: 2,
        };
        let largest = Class::of(layout).map_or(size, Class::bytes);
        let beside = Piece::new(heap, largest, 16, 4, true);
        piece.resize(heap, largest, 3);
        piece.free(heap);
        beside.free(heap);
    }
}
