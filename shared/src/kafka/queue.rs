//! What waits to be produced, and which lane takes it: the state machine of the outbox, without any I/O.
//!
//! - A lane sends one frame at a time. The first lane that has a connection takes whatever waits as soon as it is free,
//!   so the outbox clocks itself: an idle one sends at once, a busy one gathers.
//! - Any other lane takes a frame only when a whole one is waiting, so it is used when the first cannot keep up.
//! - At most one lane is being called at a time; every step that may leave cause for another says whom to call.

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

#[derive(Debug, Clone, Copy)]
struct Lane {
    state: State,
    /// It has a connection, as far as it knows.
    linked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It waits to be called.
    Idle,
    /// Woken, but has not come yet.
    Called,
    /// It sends a frame.
    Busy,
    /// It makes a connection, or pauses before the next attempt.
    Away,
}

/// The index of a lane that has to be woken.
pub(super) type Wake = Option<usize>;

// === impl Queue ===

impl<T> Queue<T> {
    /// Nobody has a connection yet.
    pub(super) fn new(lanes: usize, max_bytes: usize) -> Self {
        let away = Lane {
            state: State::Away,
            linked: false,
        };
        Self {
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            max_bytes,
            lanes: vec![away; lanes],
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

    /// A lane that has a connection and is free asks for its next frame. Without one it is idle until it is called.
    pub(super) fn take(&mut self, lane: usize) -> (Option<Vec<(usize, T)>>, Wake) {
        self.set(lane, State::Idle, true);
        let frame = self.is_wanted(lane).then(|| self.frame());
        if frame.is_some() {
            self.set(lane, State::Busy, true);
        }
        (frame, self.call())
    }

    /// A lane without connection asks whether to make one: the first always, any other with cause. Without cause it
    /// is idle until it is called.
    pub(super) fn knock(&mut self, lane: usize) -> (bool, Wake) {
        self.set(lane, State::Idle, false);
        let wanted = self.is_wanted(lane) || (lane == 0 && !self.closed);
        if wanted {
            self.set(lane, State::Away, false);
        }
        (wanted, self.call())
    }

    /// A lane has lost its connection over a frame; what is to be sent again of it is the next to go, whatever the
    /// bound says.
    pub(super) fn lose(&mut self, lane: usize, unsent: Vec<(usize, T)>) -> Wake {
        for (bytes, entry) in unsent.into_iter().rev() {
            self.waiting_bytes += bytes;
            self.waiting.push_front((bytes, entry));
        }
        self.set(lane, State::Away, false);
        self.call()
    }

    /// Takes everything that waits out, unless a lane has a connection to send it by.
    pub(super) fn give_up(&mut self) -> Vec<T> {
        if self.any_linked() {
            return Vec::new();
        }
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

    /// Nothing waits and nothing is under way.
    pub(super) fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.lanes.iter().all(|it| it.state != State::Busy)
    }

    /// Whether there is a frame for a lane.
    fn is_wanted(&self, lane: usize) -> bool {
        let first_linked = self.lanes.iter().position(|it| it.linked);
        match first_linked {
            _ if self.closed => !self.waiting.is_empty(),
            // Nobody has a connection: the first lane sees to it, the others would only fail beside it.
            None => lane == 0 && !self.waiting.is_empty(),
            Some(first) if first == lane => !self.waiting.is_empty(),
            Some(_) => self.waiting_bytes >= FRAME_BYTES,
        }
    }

    fn any_linked(&self) -> bool {
        self.lanes.iter().any(|it| it.linked)
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
        if self.lanes.iter().any(|it| it.state == State::Called) {
            return None;
        }
        let idle = |lane: usize| self.lanes.get(lane).is_some_and(|it| it.state == State::Idle);
        let lane = (0..self.lanes.len()).find(|&lane| idle(lane) && self.is_wanted(lane))?;
        if let Some(called) = self.lanes.get_mut(lane) {
            called.state = State::Called;
        }
        Some(lane)
    }

    fn set(&mut self, lane: usize, state: State, linked: bool) {
        if let Some(it) = self.lanes.get_mut(lane) {
            *it = Lane { state, linked };
        }
    }
}

#[cfg(test)]
mod tests;
