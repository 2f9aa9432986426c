//! What waits to be produced, and which connection takes it: the state machine of the producer, without any I/O.
//!
//! - A connection sends one frame at a time. The *primary* connection of a partition has a connection whenever it can; the partition's
//!   further connections make one on demand.
//! - The connection whose turn it is takes whatever waits as soon as it is free, so the producer clocks itself: an idle one sends
//!   at once, a busy one gathers. The turn goes round the primary connections, one frame each: that spreads the partitions evenly
//!   and leaves the batches as large as with one.
//! - Where it is known how many records are worth a moment's wait, that connection gathers as many, or for that moment: Kafka
//!   costs by the frame.
//! - Any other connection takes a frame only when a whole one is waiting, so it is used when the others cannot keep up.
//! - At most one connection is being called at a time; every step that may leave cause for another says whom to call.

use std::{collections::VecDeque, ops::Range};

use super::link::SMALL_BATCH_BYTES;

/// There is no room; nothing was taken. Holds what was offered.
#[derive(Debug)]
pub struct Full<T>(pub T);

/// A accumulator of entries of a known size.
#[derive(Debug)]
pub(crate) struct Accumulator<T> {
    waiting: VecDeque<(usize, T)>,
    waiting_bytes: usize,
    max_bytes: usize,
    /// The bound on a frame; more than that waiting is cause for a further connection.
    batch_bytes: usize,
    /// So many entries are sent at once, fewer are gathered first.
    batch_target: usize,
    connections: Vec<ConnectionSlot>,
    /// How many of them are primary connections: one for each partition.
    primaries: usize,
    /// How many connections may have connections, if there are no more partitions than that.
    max_connections: usize,
    /// The primary connection whose turn it is, or the first one after it that has a connection.
    turn: usize,
    /// No more entries are taken in, and any connection takes what is left.
    closed: bool,
}

#[derive(Debug, Clone, Copy)]
struct ConnectionSlot {
    /// 0 is the primary connection of its partition.
    rank: usize,
    state: State,
    /// It has a connection, as far as it knows.
    connected: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It waits to be called.
    Idle,
    /// Woken, but has not come yet.
    Woken,
    /// There is something for it, and it waits a moment for more, or to be called.
    Lingering,
    /// It sends a frame.
    Sending,
    /// It makes a connection, or pauses before the next attempt.
    Disconnected,
}

/// The index of a connection that has to be woken.
pub(crate) type Wake = Option<usize>;

/// What a connection with a connection does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action<T> {
    /// Send this frame.
    Send(Vec<(usize, T)>),
    /// Wait a moment or to be called, then ask again.
    Linger,
    /// Wait to be called.
    Park,
    /// Close the connection, then wait to be called.
    Disconnect,
}

// === impl Accumulator ===

impl<T> Accumulator<T> {
    /// A accumulator without connections.
    pub(crate) fn new(max_connections: usize, max_bytes: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            max_bytes,
            batch_bytes: SMALL_BATCH_BYTES,
            batch_target: 0,
            connections: Vec::new(),
            primaries: 0,
            max_connections,
            turn: 0,
            closed: false,
        }
    }

    /// Adds the connections of one more partition, which have no connections yet. Gives their indices, the primary connection's first.
    pub(crate) fn add_partition(&mut self) -> Range<usize> {
        let first = self.connections.len();
        self.primaries += 1;
        let ranks = (self.max_connections / self.primaries).max(1);
        self.connections.extend((0..ranks).map(|rank| ConnectionSlot {
            rank,
            state: State::Disconnected,
            connected: false,
        }));
        first..self.connections.len()
    }

    /// Bounds the connections anew; every connection has to be woken.
    pub(crate) fn set_max_connections(&mut self, max_connections: usize) {
        self.max_connections = max_connections;
    }

    /// Bounds the batches anew. What holds for one connection of the process holds for all.
    pub(crate) fn set_batch_bytes(&mut self, batch_bytes: usize) {
        self.batch_bytes = batch_bytes;
    }

    /// So many entries are worth a moment's wait, for now.
    pub(crate) fn set_batch_target(&mut self, entries: usize) {
        self.batch_target = entries;
    }

    /// Adds an entry at the end. An entry larger than the accumulator fits when nothing else waits.
    pub(crate) fn push(&mut self, bytes: usize, entry: T) -> Result<Wake, Full<T>> {
        let fits = self.waiting.is_empty() || self.waiting_bytes + bytes <= self.max_bytes;
        if self.closed || !fits {
            return Err(Full(entry));
        }
        self.waiting.push_back((bytes, entry));
        self.waiting_bytes += bytes;
        Ok(self.call())
    }

    /// A connection that has a connection is free, and asks what to do.
    pub(crate) fn take(&mut self, connection: usize) -> (Action<T>, Wake) {
        let before = self.state(connection);
        if before == Some(State::Sending) && self.first() == Some(connection) {
            self.turn = connection + 1;
        }
        self.set(connection, State::Idle, true);
        let turn = if self.is_wanted(connection, self.first()) {
            if self.is_batch_full() || before == Some(State::Lingering) {
                self.set(connection, State::Sending, true);
                Action::Send(self.frame())
            } else {
                self.set(connection, State::Lingering, true);
                Action::Linger
            }
        } else if self.is_allowed(connection) {
            Action::Park
        } else {
            self.set(connection, State::Idle, false);
            Action::Disconnect
        };
        (turn, self.call())
    }

    /// A connection without connection asks whether to make one: a primary connection always, any other with cause. Without cause it
    /// is idle until it is called.
    pub(crate) fn wants_connection(&mut self, connection: usize) -> (bool, Wake) {
        self.set(connection, State::Idle, false);
        let wanted = self.is_wanted(connection, self.first()) || (self.is_primary(connection) && !self.closed);
        if wanted {
            self.set(connection, State::Disconnected, false);
        }
        (wanted, self.call())
    }

    /// A connection has lost its connection over a frame; what is to be sent again of it is the next to go, whatever the
    /// bound says.
    pub(crate) fn lose(&mut self, connection: usize, unsent: Vec<(usize, T)>) -> Wake {
        for (bytes, entry) in unsent.into_iter().rev() {
            self.waiting_bytes += bytes;
            self.waiting.push_front((bytes, entry));
        }
        self.set(connection, State::Disconnected, false);
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

    /// Closes the accumulator; every connection has to be woken.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Nothing waits and nothing is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.connections.iter().all(|it| it.state != State::Sending)
    }

    /// Whether any connection has a connection.
    pub(crate) fn any_connected(&self) -> bool {
        self.connections.iter().any(|it| it.connected)
    }

    /// Whether any partition's primary connection has a connection.
    pub(crate) fn any_primary_connected(&self) -> bool {
        self.connections.iter().any(|it| it.connected && it.rank == 0)
    }

    /// Whether there is a frame for a connection, if `first` is the first to take one.
    fn is_wanted(&self, connection: usize, first: Option<usize>) -> bool {
        match first {
            // Even one too many: the others may have ended already.
            _ if self.closed => !self.waiting.is_empty(),
            _ if !self.is_allowed(connection) => false,
            // Nobody has a connection: the primary connections see to it, the others would only fail beside them.
            None => self.is_primary(connection) && !self.waiting.is_empty(),
            Some(first) if first == connection => !self.waiting.is_empty(),
            Some(_) => self.waiting_bytes >= self.batch_bytes,
        }
    }

    /// Whether what waits is not to be waited for.
    fn is_batch_full(&self) -> bool {
        self.closed || self.waiting.len() >= self.batch_target || self.waiting_bytes >= self.batch_bytes
    }

    /// The connection that takes whatever waits: a primary connection if one has a connection.
    fn first(&self) -> Option<usize> {
        let connected = |connection: &usize| self.connections.get(*connection).is_some_and(|it| it.connected);
        self.round()
            .find(|connection| self.is_primary(*connection) && connected(connection))
            .or_else(|| self.round().find(connected))
    }

    /// All connections, beginning with the turn.
    fn round(&self) -> impl Iterator<Item = usize> + use<T> {
        let count = self.connections.len();
        let turn = self.turn.min(count);
        (turn..count).chain(0..turn)
    }

    fn is_primary(&self, connection: usize) -> bool {
        self.connections.get(connection).is_some_and(|it| it.rank == 0)
    }

    /// Whether a connection may have a connection: each partition has one, and more as long as all have as many.
    fn is_allowed(&self, connection: usize) -> bool {
        let rank = self.connections.get(connection).map_or(0, |it| it.rank);
        rank == 0 || (rank + 1) * self.primaries <= self.max_connections
    }

    /// The longest run of entries that fits a frame, one at least.
    fn frame(&mut self) -> Vec<(usize, T)> {
        let mut total = 0;
        let fitting = self
            .waiting
            .iter()
            .take_while(|(bytes, _)| {
                total += bytes;
                total <= self.batch_bytes
            })
            .count()
            .max(1);
        let frame: Vec<_> = self.waiting.drain(..fitting).collect();
        self.waiting_bytes -= frame.iter().map(|(bytes, _)| bytes).sum::<usize>();
        frame
    }

    fn call(&mut self) -> Wake {
        if self.connections.iter().any(|it| it.state == State::Woken) {
            return None;
        }
        let first = self.first();
        let called = |connection: &usize| match self.state(*connection) {
            Some(State::Idle) => self.is_wanted(*connection, first),
            Some(State::Lingering) => self.is_batch_full(),
            _ => false,
        };
        let connection = self.round().find(called)?;
        if let Some(called) = self.connections.get_mut(connection) {
            called.state = State::Woken;
        }
        Some(connection)
    }

    fn state(&self, connection: usize) -> Option<State> {
        self.connections.get(connection).map(|it| it.state)
    }

    fn set(&mut self, connection: usize, state: State, connected: bool) {
        if let Some(it) = self.connections.get_mut(connection) {
            it.state = state;
            it.connected = connected;
        }
    }
}

#[cfg(test)]
mod tests;
