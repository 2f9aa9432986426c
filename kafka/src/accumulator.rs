//! Queues the records to be produced and decides which connection sends them: a state machine without I/O.
//!
//! - A connection has one batch in flight. It is *connected* while it has a socket to its partition's leader.
//! - Each partition has one *primary* connection, which stays connected whenever it can. Its other connections connect on
//!   demand.
//! - The next idle primary connection sends everything queued as one batch. Whole batches go round-robin over the
//!   partitions: distributing single records would divide the batch size by the number of partitions.
//! - Adaptive linger: a broker's CPU cost is per batch. That connection waits until the batch target is queued, for one
//!   linger at most.
//! - Any other connection sends only while a full batch is queued.
//! - At most one connection is [`ConnectionState::Woken`]. Every step that may leave work for another connection returns
//!   the one to wake.

use std::{collections::VecDeque, ops::Range};

use crate::leader::MAX_BATCH_BYTES;

/// The queue has reached its bound or is closed. Holds the entry that was not queued.
#[derive(Debug)]
pub struct Full<T>(pub T);

/// Entries with their size in bytes, in the order in which they are sent.
pub(crate) type Batch<T> = Vec<(usize, T)>;

/// A queue of entries of a known size, and the connections that empty it.
#[derive(Debug)]
pub(crate) struct Accumulator<T> {
    queue: VecDeque<(usize, T)>,
    queued_bytes: usize,
    max_bytes: usize,
    /// The size limit of a batch. A queue of this size is a full batch.
    batch_bytes: usize,
    /// How many queued entries end a linger. 0 and 1 turn the linger off.
    batch_target: usize,
    connections: Vec<ProducerConnection>,
    /// The number of partitions, each of which has a primary connection.
    primaries: usize,
    /// The limit on connected connections. Primary connections may exceed it.
    max_connections: usize,
    /// Where the round-robin over the connections goes on.
    next: usize,
    /// No entry is queued any more, and any connection sends what is left.
    closed: bool,
}

#[derive(Debug, Clone, Copy)]
struct ProducerConnection {
    partition: i32,
    /// Its number within its partition; 0 is the primary connection.
    rank: usize,
    state: ConnectionState,
    /// The topic no longer has its partition: it sends nothing more.
    is_removed: bool,
    /// As far as it has reported.
    is_connected: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConnectionState {
    /// Waits to be woken, connected or not.
    Parked,
    /// Was woken and has not asked for its next action yet.
    Woken,
    /// Connected; waits for the batch target or the end of the linger.
    Lingering,
    /// Has a batch in flight.
    Sending,
    /// Connects, or backs off before the next attempt.
    Disconnected,
}

/// The index of a connection to wake.
pub(crate) type Wake = Option<usize>;

/// What a connected connection does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action<T> {
    /// Send this batch.
    Send(Batch<T>),
    /// Ask again when woken, after one linger at the latest.
    Linger,
    /// Wait to be woken.
    Park,
    /// Close the socket, then wait to be woken.
    Disconnect,
}

// === impl Accumulator ===

impl<T> Accumulator<T> {
    /// An empty queue without connections.
    pub(crate) fn new(max_connections: usize, max_bytes: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            queued_bytes: 0,
            max_bytes,
            batch_bytes: MAX_BATCH_BYTES,
            batch_target: 0,
            connections: Vec::new(),
            primaries: 0,
            max_connections,
            next: 0,
            closed: false,
        }
    }

    /// Adds the connections of a partition, all disconnected. Returns their indices, the primary connection's first.
    pub(crate) fn add_partition(&mut self, partition: i32) -> Range<usize> {
        let first = self.connections.len();
        self.primaries += 1;
        let per_partition = (self.max_connections / self.primaries).max(1);
        self.connections
            .extend((0..per_partition).map(|rank| ProducerConnection {
                partition,
                rank,
                state: ConnectionState::Disconnected,
                is_removed: false,
                is_connected: false,
            }));
        first..self.connections.len()
    }

    /// Removes a partition: the other partitions get what is queued. Its connections disconnect, after the batch that is in
    /// flight. The caller wakes every connection.
    pub(crate) fn remove_partition(&mut self, partition: i32) {
        let is_removed = |connection: &&mut ProducerConnection| connection.partition == partition;
        for connection in self.connections.iter_mut().filter(is_removed) {
            connection.is_removed = true;
            connection.is_connected = false;
        }
        let is_primary = |connection: &&ProducerConnection| connection.rank == 0 && !connection.is_removed;
        self.primaries = self.connections.iter().filter(is_primary).count();
    }

    /// Changes the limit on connections. The caller wakes every connection.
    pub(crate) fn set_max_connections(&mut self, max_connections: usize) {
        self.max_connections = max_connections;
    }

    /// Changes the size limit of batches, for all connections.
    pub(crate) fn set_batch_bytes(&mut self, batch_bytes: usize) {
        self.batch_bytes = batch_bytes;
    }

    /// Changes how many queued entries end a linger.
    pub(crate) fn set_batch_target(&mut self, entries: usize) {
        self.batch_target = entries;
    }

    /// Queues an entry. One that is larger than the queue's bound fits when nothing else is queued.
    pub(crate) fn push(&mut self, bytes: usize, entry: T) -> Result<Wake, Full<T>> {
        let fits = self.queue.is_empty() || self.queued_bytes + bytes <= self.max_bytes;
        if self.closed || !fits {
            return Err(Full(entry));
        }
        self.queue.push_back((bytes, entry));
        self.queued_bytes += bytes;
        Ok(self.wake())
    }

    /// What a connected connection without a batch in flight does next.
    pub(crate) fn next_action(&mut self, connection: usize) -> (Action<T>, Wake) {
        let before = self.state(connection);
        if before == Some(ConnectionState::Sending) && self.next_sender() == Some(connection) {
            self.next = connection + 1;
        }
        self.set(connection, ConnectionState::Parked, true);
        let action = if self.has_batch_for(connection, self.next_sender()) {
            if self.is_linger_over() || before == Some(ConnectionState::Lingering) {
                self.set(connection, ConnectionState::Sending, true);
                Action::Send(self.take_batch())
            } else {
                self.set(connection, ConnectionState::Lingering, true);
                Action::Linger
            }
        } else if self.is_within_limit(connection) {
            Action::Park
        } else {
            self.set(connection, ConnectionState::Parked, false);
            Action::Disconnect
        };
        (action, self.wake())
    }

    /// Whether a connection has nothing to do any more: its partition is removed, or the queue is closed.
    pub(crate) fn has_ended(&self, connection: usize) -> bool {
        self.closed || self.is_removed(connection)
    }

    /// Whether a disconnected connection should connect: a primary always, any other only if there is a batch for it.
    /// Otherwise it is parked.
    pub(crate) fn should_connect(&mut self, connection: usize) -> (bool, Wake) {
        self.set(connection, ConnectionState::Parked, false);
        let has_batch = self.has_batch_for(connection, self.next_sender());
        let should_connect = has_batch || (self.is_primary(connection) && !self.closed);
        if should_connect {
            self.set(connection, ConnectionState::Disconnected, false);
        }
        (should_connect, self.wake())
    }

    /// A connection failed with a batch in flight. `unsent` is what is sent again of it: it goes to the front of the queue,
    /// over the bound if need be.
    pub(crate) fn on_disconnect(&mut self, connection: usize, unsent: Batch<T>) -> Wake {
        for (bytes, entry) in unsent.into_iter().rev() {
            self.queued_bytes += bytes;
            self.queue.push_front((bytes, entry));
        }
        self.set(connection, ConnectionState::Disconnected, false);
        self.wake()
    }

    /// Removes entries from the front of the queue while `predicate` holds.
    pub(crate) fn drain_while(&mut self, predicate: impl Fn(&T) -> bool) -> Vec<T> {
        let count = self.queue.iter().take_while(|(_, entry)| predicate(entry)).count();
        let queued_bytes = &mut self.queued_bytes;
        let drained = self.queue.drain(..count).map(|(bytes, entry)| {
            *queued_bytes -= bytes;
            entry
        });
        drained.collect()
    }

    /// Closes the queue. The caller wakes every connection.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether nothing is queued and nothing in flight.
    pub(crate) fn is_idle(&self) -> bool {
        let is_sending = |connection: &ProducerConnection| connection.state == ConnectionState::Sending;
        self.queue.is_empty() && !self.connections.iter().any(is_sending)
    }

    pub(crate) fn is_any_connected(&self) -> bool {
        self.connections.iter().any(|connection| connection.is_connected)
    }

    pub(crate) fn is_any_primary_connected(&self) -> bool {
        let mut connections = self.connections.iter();
        connections.any(|connection| connection.is_connected && connection.rank == 0)
    }

    /// Whether there is a batch for a connection, given the next sender.
    fn has_batch_for(&self, connection: usize, next_sender: Option<usize>) -> bool {
        match next_sender {
            _ if self.is_removed(connection) => false,
            // Connections over the limit too: the others may have ended already.
            _ if self.closed => !self.queue.is_empty(),
            _ if !self.is_within_limit(connection) => false,
            // No connection is connected. The primaries try; others would only fail beside them.
            None => self.is_primary(connection) && !self.queue.is_empty(),
            Some(next) if next == connection => !self.queue.is_empty(),
            Some(_) => self.queued_bytes >= self.batch_bytes,
        }
    }

    fn is_linger_over(&self) -> bool {
        self.closed || self.queue.len() >= self.batch_target || self.queued_bytes >= self.batch_bytes
    }

    /// The connection that sends whatever is queued: the next connected primary, or else any connected connection.
    fn next_sender(&self) -> Option<usize> {
        let is_connected = |connection: &usize| {
            let connection = self.connections.get(*connection);
            connection.is_some_and(|connection| connection.is_connected)
        };
        self.round_robin()
            .find(|connection| self.is_primary(*connection) && is_connected(connection))
            .or_else(|| self.round_robin().find(is_connected))
    }

    /// The indices of all connections, beginning with the next one.
    fn round_robin(&self) -> impl Iterator<Item = usize> + use<T> {
        let count = self.connections.len();
        let next = self.next.min(count);
        (next..count).chain(0..next)
    }

    fn is_primary(&self, connection: usize) -> bool {
        let connection = self.connections.get(connection);
        connection.is_some_and(|connection| connection.rank == 0 && !connection.is_removed)
    }

    fn is_removed(&self, connection: usize) -> bool {
        let connection = self.connections.get(connection);
        connection.is_some_and(|connection| connection.is_removed)
    }

    /// Whether a connection may be connected. All partitions have the same number of connections, at least one.
    fn is_within_limit(&self, connection: usize) -> bool {
        if self.is_removed(connection) {
            return false;
        }
        let connection = self.connections.get(connection);
        let rank = connection.map_or(0, |connection| connection.rank);
        rank == 0 || (rank + 1) * self.primaries <= self.max_connections
    }

    /// Takes the longest run of entries within the size limit, at least one entry.
    fn take_batch(&mut self) -> Batch<T> {
        let mut total = 0;
        let fitting = self
            .queue
            .iter()
            .take_while(|(bytes, _)| {
                total += bytes;
                total <= self.batch_bytes
            })
            .count()
            .max(1);
        let batch: Batch<T> = self.queue.drain(..fitting).collect();
        self.queued_bytes -= batch.iter().map(|(bytes, _)| bytes).sum::<usize>();
        batch
    }

    /// Marks the next connection that has something to do as woken, unless one is woken already.
    fn wake(&mut self) -> Wake {
        let is_woken = |connection: &ProducerConnection| connection.state == ConnectionState::Woken;
        if self.connections.iter().any(is_woken) {
            return None;
        }
        let next_sender = self.next_sender();
        let has_work = |connection: &usize| match self.state(*connection) {
            Some(ConnectionState::Parked) => self.has_batch_for(*connection, next_sender),
            Some(ConnectionState::Lingering) => self.is_linger_over(),
            _ => false,
        };
        let index = self.round_robin().find(has_work)?;
        if let Some(connection) = self.connections.get_mut(index) {
            connection.state = ConnectionState::Woken;
        }
        Some(index)
    }

    fn state(&self, connection: usize) -> Option<ConnectionState> {
        self.connections.get(connection).map(|connection| connection.state)
    }

    fn set(&mut self, connection: usize, state: ConnectionState, is_connected: bool) {
        if let Some(connection) = self.connections.get_mut(connection) {
            connection.state = state;
            connection.is_connected = is_connected && !connection.is_removed;
        }
    }
}

#[cfg(test)]
mod tests;
