//! What waits to be produced, and which lane takes it: the state machine of the outbox, without any I/O.
//!
//! - A lane sends one frame at a time. Lane 0 takes whatever waits as soon as it is free, so the outbox clocks
//!   itself: an idle one sends at once, a busy one gathers.
//! - Any other lane takes whole frames only, so it is used when lane 0 cannot keep up and never splits a batch.
//! - At most one lane is being called at a time; each lane that takes a frame calls the next if there is cause.

use std::collections::VecDeque;

/// The records of one frame, in bytes: 7.5 KiB less the batch's and the request's own bytes.
///
/// The client writes through an 8 KiB buffer on a socket without `TCP_NODELAY`: a larger frame leaves in two
/// writes, and Nagle's algorithm holds the second back until a delayed acknowledgement 40 ms later.
pub(super) const FRAME_BYTES: usize = 7_680 - 280;

/// There is no room; nothing was taken. Holds what was offered.
#[derive(Debug)]
pub struct Full<T>(pub T);

/// A queue of entries of a known size.
#[derive(Debug)]
pub(super) struct Queue<T> {
    waiting: VecDeque<(usize, T)>,
    waiting_bytes: usize,
    max_bytes: usize,
    lanes: Vec<Lane>,
    /// No more entries are taken in, and any lane takes what is left.
    closed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Idle,
    /// Woken, but has not come yet.
    Called,
    /// Sending, or connecting.
    Busy,
}

/// The index of a lane that has to be woken.
pub(super) type Wake = Option<usize>;

// === impl Queue ===

impl<T> Queue<T> {
    /// All lanes begin busy: each says that it is free by taking.
    pub(super) fn new(lanes: usize, max_bytes: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            max_bytes,
            lanes: vec![Lane::Busy; lanes],
            closed: false,
        }
    }

    /// Adds an entry at the end. An entry larger than the queue fits when nothing else waits.
    pub(super) fn push(&mut self, bytes: usize, entry: T) -> Result<Wake, Full<T>> {
        let fits = self.waiting.is_empty() || self.waiting_bytes + bytes <= self.max_bytes;
        if self.closed || !fits {
            return Err(Full(entry));
        }
        self.waiting.push_back((bytes, entry));
        self.waiting_bytes += bytes;
        Ok(self.call())
    }

    /// A free lane asks for its next frame. Without one the lane is idle until it is woken.
    pub(super) fn take(&mut self, lane: usize) -> (Option<Vec<(usize, T)>>, Wake) {
        let frame = self.is_wanted(lane).then(|| self.frame());
        self.set(lane, if frame.is_some() { Lane::Busy } else { Lane::Idle });
        (frame, self.call())
    }

    /// A lane that has no connection yet asks whether it should make one. Without cause it is idle until woken.
    pub(super) fn knock(&mut self, lane: usize) -> bool {
        let wanted = self.is_wanted(lane);
        self.set(lane, if wanted { Lane::Busy } else { Lane::Idle });
        wanted
    }

    /// Puts a frame that was not sent back to the front, whatever the bound says.
    pub(super) fn put_back(&mut self, frame: Vec<(usize, T)>) {
        for (bytes, entry) in frame.into_iter().rev() {
            self.waiting_bytes += bytes;
            self.waiting.push_front((bytes, entry));
        }
    }

    /// Takes everything that waits out.
    pub(super) fn clear(&mut self) -> Vec<T> {
        self.waiting_bytes = 0;
        self.waiting.drain(..).map(|(_, entry)| entry).collect()
    }

    /// Closes the queue; every lane has to be woken.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Nothing waits and no lane is busy.
    pub(super) fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.lanes.iter().all(|it| *it != Lane::Busy)
    }

    fn is_wanted(&self, lane: usize) -> bool {
        if lane == 0 || self.closed {
            !self.waiting.is_empty()
        } else {
            self.waiting_bytes >= FRAME_BYTES
        }
    }

    /// The longest run of entries that fits a frame, one at least.
    fn frame(&mut self) -> Vec<(usize, T)> {
        let mut total = 0;
        let fitting = self
            .waiting
            .iter()
            .take_while(|(bytes, _)| {
                total += bytes;
                total <= FRAME_BYTES
            })
            .count()
            .max(1);
        let frame: Vec<_> = self.waiting.drain(..fitting).collect();
        self.waiting_bytes -= frame.iter().map(|(bytes, _)| bytes).sum::<usize>();
        frame
    }

    fn call(&mut self) -> Wake {
        if self.lanes.contains(&Lane::Called) {
            return None;
        }
        let lane =
            (0..self.lanes.len()).find(|&lane| self.lanes.get(lane) == Some(&Lane::Idle) && self.is_wanted(lane))?;
        self.set(lane, Lane::Called);
        Some(lane)
    }

    fn set(&mut self, lane: usize, state: Lane) {
        if let Some(slot) = self.lanes.get_mut(lane) {
            *slot = state;
        }
    }
}

#[cfg(test)]
mod tests;
