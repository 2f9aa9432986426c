//! What waits to be produced, and which lane takes it: the state machine of the outbox, without any I/O.
//!
//! - A lane sends one frame at a time. The *home* lane of a partition has a connection whenever it can; the partition's
//!   further lanes make one on demand.
//! - The lane whose turn it is takes whatever waits as soon as it is free, so the outbox clocks itself: an idle one sends
//!   at once, a busy one gathers. The turn goes round the home lanes, one frame each: that spreads the partitions evenly
//!   and leaves the frames as large as with one.
//! - Where it is known how many records are worth a moment's wait, that lane gathers as many, or for that moment: Kafka
//!   costs by the frame.
//! - Any other lane takes a frame only when a whole one is waiting, so it is used when the others cannot keep up.
//! - At most one lane is being called at a time; every step that may leave cause for another says whom to call.

use std::{collections::VecDeque, ops::Range};

use super::link::SMALL_FRAME_BYTES;

/// There is no room; nothing was taken. Holds what was offered.
#[derive(Debug)]
pub struct Full<T>(pub T);

/// A queue of entries of a known size.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    waiting: VecDeque<(usize, T)>,
    waiting_bytes: usize,
    max_bytes: usize,
    /// The bound on a frame; more than that waiting is cause for a further lane.
    frame_bytes: usize,
    /// So many entries are sent at once, fewer are gathered first.
    enough: usize,
    lanes: Vec<Lane>,
    /// How many of them are home lanes: one for each partition.
    homes: usize,
    /// How many lanes may have connections, if there are no more partitions than that.
    max_lanes: usize,
    /// The home lane whose turn it is, or the first one after it that has a connection.
    turn: usize,
    /// No more entries are taken in, and any lane takes what is left.
    closed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Lane {
    /// 0 is the home lane of its partition.
    rank: usize,
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
    /// There is something for it, and it waits a moment for more, or to be called.
    Gathering,
    /// It sends a frame.
    Busy,
    /// It makes a connection, or pauses before the next attempt.
    Away,
}

/// The index of a lane that has to be woken.
pub(crate) type Wake = Option<usize>;

/// What a lane with a connection does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn<T> {
    /// Send this frame.
    Send(Vec<(usize, T)>),
    /// Wait a moment or to be called, then ask again.
    Gather,
    /// Wait to be called.
    Wait,
    /// Close the connection, then wait to be called.
    Unlink,
}

// === impl Queue ===

impl<T> Queue<T> {
    /// A queue without lanes.
    pub(crate) fn new(max_lanes: usize, max_bytes: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            max_bytes,
            frame_bytes: SMALL_FRAME_BYTES,
            enough: 0,
            lanes: Vec::new(),
            homes: 0,
            max_lanes,
            turn: 0,
            closed: false,
        }
    }

    /// Adds the lanes of one more partition, which have no connections yet. Gives their indices, the home lane's first.
    pub(crate) fn add_partition(&mut self) -> Range<usize> {
        let first = self.lanes.len();
        self.homes += 1;
        let ranks = (self.max_lanes / self.homes).max(1);
        self.lanes.extend((0..ranks).map(|rank| Lane {
            rank,
            state: State::Away,
            linked: false,
        }));
        first..self.lanes.len()
    }

    /// Bounds the connections anew; every lane has to be woken.
    pub(crate) fn set_max_lanes(&mut self, max_lanes: usize) {
        self.max_lanes = max_lanes;
    }

    /// Bounds the frames anew. What holds for one connection of the process holds for all.
    pub(crate) fn set_frame_bytes(&mut self, frame_bytes: usize) {
        self.frame_bytes = frame_bytes;
    }

    /// So many entries are worth a moment's wait, for now.
    pub(crate) fn set_enough(&mut self, entries: usize) {
        self.enough = entries;
    }

    /// Adds an entry at the end. An entry larger than the queue fits when nothing else waits.
    pub(crate) fn push(&mut self, bytes: usize, entry: T) -> Result<Wake, Full<T>> {
        let fits = self.waiting.is_empty() || self.waiting_bytes + bytes <= self.max_bytes;
        if self.closed || !fits {
            return Err(Full(entry));
        }
        self.waiting.push_back((bytes, entry));
        self.waiting_bytes += bytes;
        Ok(self.call())
    }

    /// A lane that has a connection is free, and asks what to do.
    pub(crate) fn take(&mut self, lane: usize) -> (Turn<T>, Wake) {
        let before = self.state(lane);
        if before == Some(State::Busy) && self.first() == Some(lane) {
            self.turn = lane + 1;
        }
        self.set(lane, State::Idle, true);
        let turn = if self.is_wanted(lane, self.first()) {
            if self.has_enough() || before == Some(State::Gathering) {
                self.set(lane, State::Busy, true);
                Turn::Send(self.frame())
            } else {
                self.set(lane, State::Gathering, true);
                Turn::Gather
            }
        } else if self.is_allowed(lane) {
            Turn::Wait
        } else {
            self.set(lane, State::Idle, false);
            Turn::Unlink
        };
        (turn, self.call())
    }

    /// A lane without connection asks whether to make one: a home lane always, any other with cause. Without cause it
    /// is idle until it is called.
    pub(crate) fn knock(&mut self, lane: usize) -> (bool, Wake) {
        self.set(lane, State::Idle, false);
        let wanted = self.is_wanted(lane, self.first()) || (self.is_home(lane) && !self.closed);
        if wanted {
            self.set(lane, State::Away, false);
        }
        (wanted, self.call())
    }

    /// A lane has lost its connection over a frame; what is to be sent again of it is the next to go, whatever the
    /// bound says.
    pub(crate) fn lose(&mut self, lane: usize, unsent: Vec<(usize, T)>) -> Wake {
        for (bytes, entry) in unsent.into_iter().rev() {
            self.waiting_bytes += bytes;
            self.waiting.push_front((bytes, entry));
        }
        self.set(lane, State::Away, false);
        self.call()
    }

    /// Takes out what waits, from the front on, as long as it is `old`.
    pub(crate) fn drain_while(&mut self, old: impl Fn(&T) -> bool) -> Vec<T> {
        let count = self.waiting.iter().take_while(|(_, entry)| old(entry)).count();
        let drained = self.waiting.drain(..count);
        let waiting_bytes = &mut self.waiting_bytes;
        let entries = drained.map(|(bytes, entry)| {
            *waiting_bytes -= bytes;
            entry
        });
        entries.collect()
    }

    /// Closes the queue; every lane has to be woken.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Nothing waits and nothing is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.lanes.iter().all(|it| it.state != State::Busy)
    }

    /// Whether any lane has a connection.
    pub(crate) fn any_linked(&self) -> bool {
        self.lanes.iter().any(|it| it.linked)
    }

    /// Whether any partition's home lane has a connection.
    pub(crate) fn any_home_linked(&self) -> bool {
        self.lanes.iter().any(|it| it.linked && it.rank == 0)
    }

    /// Whether there is a frame for a lane, if `first` is the first to take one.
    fn is_wanted(&self, lane: usize, first: Option<usize>) -> bool {
        match first {
            // Even one too many: the others may have ended already.
            _ if self.closed => !self.waiting.is_empty(),
            _ if !self.is_allowed(lane) => false,
            // Nobody has a connection: the home lanes see to it, the others would only fail beside them.
            None => self.is_home(lane) && !self.waiting.is_empty(),
            Some(first) if first == lane => !self.waiting.is_empty(),
            Some(_) => self.waiting_bytes >= self.frame_bytes,
        }
    }

    /// Whether what waits is not to be waited for.
    fn has_enough(&self) -> bool {
        self.closed || self.waiting.len() >= self.enough || self.waiting_bytes >= self.frame_bytes
    }

    /// The lane that takes whatever waits: a home lane if one has a connection.
    fn first(&self) -> Option<usize> {
        let linked = |lane: &usize| self.lanes.get(*lane).is_some_and(|it| it.linked);
        self.round()
            .find(|lane| self.is_home(*lane) && linked(lane))
            .or_else(|| self.round().find(linked))
    }

    /// All lanes, beginning with the turn.
    fn round(&self) -> impl Iterator<Item = usize> + use<T> {
        let count = self.lanes.len();
        let turn = self.turn.min(count);
        (turn..count).chain(0..turn)
    }

    fn is_home(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_some_and(|it| it.rank == 0)
    }

    /// Whether a lane may have a connection: each partition has one, and more as long as all have as many.
    fn is_allowed(&self, lane: usize) -> bool {
        let rank = self.lanes.get(lane).map_or(0, |it| it.rank);
        rank == 0 || (rank + 1) * self.homes <= self.max_lanes
    }

    /// The longest run of entries that fits a frame, one at least.
    fn frame(&mut self) -> Vec<(usize, T)> {
        let mut total = 0;
        let fitting = self
            .waiting
            .iter()
            .take_while(|(bytes, _)| {
                total += bytes;
                total <= self.frame_bytes
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
        let first = self.first();
        let called = |lane: &usize| match self.state(*lane) {
            Some(State::Idle) => self.is_wanted(*lane, first),
            Some(State::Gathering) => self.has_enough(),
            _ => false,
        };
        let lane = self.round().find(called)?;
        if let Some(called) = self.lanes.get_mut(lane) {
            called.state = State::Called;
        }
        Some(lane)
    }

    fn state(&self, lane: usize) -> Option<State> {
        self.lanes.get(lane).map(|it| it.state)
    }

    fn set(&mut self, lane: usize, state: State, linked: bool) {
        if let Some(it) = self.lanes.get_mut(lane) {
            it.state = state;
            it.linked = linked;
        }
    }
}

#[cfg(test)]
mod tests;
