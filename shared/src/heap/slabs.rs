//! Memory for one thread, as close together as can be.
//!
//! A request needs a few dozen pieces, and between two of them thousands of others come and go. If what was given
//! back last were simply the next to go, as in a list, the pieces of a few callers would lie where those of a crowd before them
//! happened to end: each in a page and a cache line of its own, for good. So it is always the one with the lowest address, and
//! whoever is few is close together.
//!
//! - A *slab* is a range of addresses that is cut into pieces of one size. What is free in it is a set of bits somewhere
//!   else: nothing here touches the memory itself, and pieces are known by their offset from the first slab.
//! - The pieces of a class come from its lowest slab that has one.
//! - A slab of which nothing is in use is for whatever class needs one. But a class keeps its lowest slab, even an empty one,
//!   as long as others need not touch a new one for that. (Those of buffers are for buffers, as long as there are others.)
//! - The buffers of connections, of which hyper takes two for each, begin with a page: only the first few hundred bytes are
//!   ever used of most, and so the second page is never there. As other memory they would be cut anew for every crowd, until
//!   all of both pages had been touched.

use std::alloc::Layout;

use super::bits::Bits;

/// Sizes are so far apart, in bytes.
const STEP_BYTES: usize = 8;

/// The smallest piece, in bytes.
const MIN_BYTES: usize = 16;

/// The largest piece that is no buffer, in bytes: the task of a connection.
const MAX_BYTES: usize = 1024;

/// What a piece can be aligned to, in bytes: to tokio a cache line is so long.
const MAX_ALIGN: usize = 128;

/// What hyper's and tokio's buffers begin with, in bytes.
pub(super) const BUFFER_BYTES: usize = 8 * 1024;

const PAGE_BYTES: usize = 4 * 1024;

const SLAB_BYTES: usize = 32 * 1024;

/// How many slabs there can be: the buffers of 20,000 connections are a good half of them.
const SLABS: usize = 16384;

/// What all of them have, in bytes: none of it is there before it is used.
pub(super) const ALL_BYTES: usize = SLABS * SLAB_BYTES;

const CLASSES: usize = MAX_BYTES / STEP_BYTES + 1;

/// Which size pieces have: so many steps, or, as there are no pieces of no step, that of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class(u8);

/// All slabs, and what is free in them. Zero before it is used.
pub(super) struct Slabs {
    /// The lowest slab of a class that may have a piece; 0 if none has.
    lowest: [u16; CLASSES],
    /// The slabs of a class that may have a piece: whether they do is seen when one is looked for.
    with_room: [Bits<{ SLABS / 64 }>; CLASSES],
    slabs: [Slab; SLABS],
    /// Slabs that were used, and are no class's now.
    unused: Bits<{ SLABS / 64 }>,
    /// Those that were buffers, and become buffers again if there are others: half of their pages are not there.
    unused_buffers: Bits<{ SLABS / 64 }>,
    /// None after this one was used yet. The first one never is: 0 stands for none.
    last: usize,
}

/// A range of addresses, cut into pieces.
struct Slab {
    class: Class,
    /// Where the first piece begins, from the first slab on.
    start: u32,
    /// The size of a piece.
    bytes: u32,
    /// 2^32 / bytes, rounded up: to multiply is faster than to divide.
    inverse: u32,
    count: u16,
    used: u16,
    free: Bits<{ SLAB_BYTES / MIN_BYTES / 64 }>,
}

// === impl Class ===

impl Class {
    const BUFFER: Self = Self(0);

    /// The class of this layout, if it has one.
    #[inline]
    pub(super) fn of(layout: Layout) -> Option<Self> {
        let align = layout.align().max(STEP_BYTES);
        if layout.size() <= MAX_BYTES && align <= MAX_ALIGN {
            // Pieces are as far apart as they are large, so they are aligned to what divides their size.
            let bytes = layout.size().max(MIN_BYTES).next_multiple_of(align);
            #[expect(clippy::cast_possible_truncation, reason = "the bounds are constants")]
            Some(Self((bytes / STEP_BYTES) as u8))
        } else {
            (layout.size() == BUFFER_BYTES && align <= PAGE_BYTES).then_some(Self::BUFFER)
        }
    }

    /// How large a piece of it is.
    #[inline]
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::BUFFER => BUFFER_BYTES,
            Self(steps) => usize::from(steps) * STEP_BYTES,
        }
    }

    #[inline]
    fn index(self) -> usize {
        usize::from(self.0)
    }
}

// === impl Slabs ===

impl Slabs {
    /// A piece of the class's lowest slab, if that has one.
    #[inline]
    pub(super) fn take(&mut self, class: Class) -> Option<usize> {
        let lowest = *self.lowest.get(class.index())?;
        self.slabs.get_mut(usize::from(lowest))?.take()
    }

    /// A piece of the next slab, where the lowest one has none; `None` if there are no more slabs.
    #[cold]
    pub(super) fn take_from_next(&mut self, class: Class) -> Option<usize> {
        let with_room = self.with_room.get_mut(class.index())?;
        while let Some(index) = with_room.least() {
            let slab = self.slabs.get_mut(index)?;
            if let Some(offset) = slab.take() {
                self.set_lowest(class, index);
                return Some(offset);
            }
            with_room.remove(index);
        }
        let found = self.find(class);
        self.set_lowest(class, found.unwrap_or(0));
        let index = found?;
        self.with_room.get_mut(class.index())?.insert(index);
        let slab = self.slabs.get_mut(index)?;
        slab.cut(index, class);
        slab.take()
    }

    /// A slab that no class needs: one that was used, if there is one.
    fn find(&mut self, class: Class) -> Option<usize> {
        let (used, other) = match class {
            Class::BUFFER => (self.unused_buffers.take_least(), &mut self.unused),
            _ => (
                self.unused.take_least().or_else(|| self.take_an_empty_lowest()),
                &mut self.unused_buffers,
            ),
        };
        used.or_else(|| next(&mut self.last)).or_else(|| other.take_least())
    }

    /// The lowest slab of another class, if nothing of it is in use.
    fn take_an_empty_lowest(&mut self) -> Option<usize> {
        let is_empty = |index: &u16| self.slabs.get(usize::from(*index)).is_some_and(Slab::is_empty);
        // The first class is that of buffers.
        let class = 1 + self.lowest.iter().skip(1).position(is_empty)?;
        let (lowest, with_room) = (self.lowest.get_mut(class)?, self.with_room.get_mut(class)?);
        let index = usize::from(*lowest);
        with_room.remove(index);
        *lowest = u16::try_from(with_room.least().unwrap_or(0)).ok()?;
        Some(index)
    }

    /// Takes a piece back.
    #[inline]
    pub(super) fn give_back(&mut self, offset: usize) {
        let index = offset / SLAB_BYTES;
        let Some(slab) = self.slabs.get_mut(index) else {
            return;
        };
        let was_full = slab.used == slab.count;
        slab.give_back(offset);
        let class = slab.class;
        let Some(lowest) = self.lowest.get(class.index()).map(|it| usize::from(*it)) else {
            return;
        };
        if was_full && let Some(with_room) = self.with_room.get_mut(class.index()) {
            with_room.insert(index);
        }
        if lowest == 0 || index < lowest {
            self.set_lowest(class, index);
            self.release_if_empty(lowest);
        } else if index != lowest {
            self.release_if_empty(index);
        }
    }

    #[inline]
    fn set_lowest(&mut self, class: Class, index: usize) {
        if let (Some(lowest), Ok(index)) = (self.lowest.get_mut(class.index()), u16::try_from(index)) {
            *lowest = index;
        }
    }

    /// A slab that is not the lowest of its class is anybody's when nothing of it is in use.
    #[inline]
    fn release_if_empty(&mut self, index: usize) {
        if let Some(slab) = self.slabs.get(index)
            && slab.is_empty()
            && let Some(with_room) = self.with_room.get_mut(slab.class.index())
        {
            with_room.remove(index);
            match slab.class {
                Class::BUFFER => self.unused_buffers.insert(index),
                _ => self.unused.insert(index),
            }
        }
    }
}

/// The next slab that was never used.
fn next(last: &mut usize) -> Option<usize> {
    let index = *last + 1;
    (index < SLABS).then(|| {
        *last = index;
        index
    })
}

// === impl Slab ===

impl Slab {
    /// Makes it pieces of a class, all of them free.
    #[expect(clippy::cast_possible_truncation, reason = "the bounds are constants")]
    fn cut(&mut self, index: usize, class: Class) {
        let bytes = class.bytes();
        // The first pieces, which are used most, are not to be in the same sets of the processor's caches in all slabs.
        let colour = match class {
            Class::BUFFER => 0,
            _ => index % 16 * MAX_ALIGN,
        };
        let count = (SLAB_BYTES - colour) / bytes;
        self.class = class;
        self.start = (index * SLAB_BYTES + colour) as u32;
        self.bytes = bytes as u32;
        self.inverse = (1_usize << 32).div_ceil(bytes) as u32;
        self.count = count as u16;
        self.used = 0;
        self.free.fill(count);
    }

    /// Whether nothing of it is in use, and it is one.
    fn is_empty(&self) -> bool {
        self.used == 0 && self.count > 0
    }

    /// Takes a piece: where it begins, from the first slab on.
    #[inline]
    fn take(&mut self) -> Option<usize> {
        let piece = self.free.take_least()?;
        self.used += 1;
        Some(self.start as usize + piece * self.bytes as usize)
    }

    #[inline]
    fn give_back(&mut self, offset: usize) {
        let from_start = (offset - self.start as usize) as u64;
        let piece = (from_start * u64::from(self.inverse)) >> 32;
        self.free.insert(piece as usize);
        self.used -= 1;
    }
}
