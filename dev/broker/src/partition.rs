//! One partition: its log, who leads it, and who waits for it.
//!
//! Everything is behind one lock, held for the time of a few pointer moves and never over an await. Whoever changes what a
//! reader may see takes the waiting readers out under the lock and wakes them after it.

#[cfg(feature = "faults")]
mod faults;

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    batch::Batch,
    log::{Aborted, Found, Log, OutOfRange, Slice},
    producers::{Producers, Sequence},
};

impl From<OutOfRange> for ResponseError {
    fn from(_: OutOfRange) -> Self {
        ResponseError::OffsetOutOfRange
    }
}

/// The node that leads a partition, and since which epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leadership {
    /// The node.
    pub(crate) node: i32,
    /// Grows with every change.
    pub(crate) epoch: i32,
}

/// Who asks, and what they believe.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// The node the request came to.
    pub(crate) node: i32,
    /// The leader epoch the client knows; -1 if it does not say (KIP-320).
    pub(crate) epoch: i32,
}

/// A read as a fetch wants it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// The first offset.
    pub(crate) from: i64,
    /// The most bytes.
    pub(crate) max_bytes: usize,
    /// Give the first batch even if it is larger (KIP-74).
    pub(crate) at_least_one: bool,
    /// Nothing of open transactions (KIP-98).
    pub(crate) committed: bool,
}

/// What a fetch gets of one partition.
#[derive(Debug)]
pub(crate) struct Read {
    /// The batches.
    pub(crate) slice: Slice,
    /// The high watermark.
    pub(crate) end: i64,
    /// The last stable offset.
    pub(crate) stable: i64,
    /// The first offset there is.
    pub(crate) start: i64,
    /// Aborted transactions in the slice, for who reads only what is committed.
    pub(crate) aborted: Option<Vec<Aborted>>,
}

/// A question for an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// The end: the high watermark, or the last stable offset for readers of what is committed.
    Latest,
    /// The start.
    Earliest,
    /// The record with the largest timestamp (KIP-734).
    MaxTimestamp,
    /// The first record at or after this many ms since the epoch (KIP-79).
    Timestamp(i64),
}

/// A batch was appended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Appended {
    /// Its first offset.
    pub(crate) base: i64,
    /// The first offset of the log.
    pub(crate) start: i64,
}

#[derive(Debug)]
struct State {
    log: Log,
    producers: Producers,
    leader: i32,
    /// Fetches that found too little here. Bounded by the connections: each has one request under way.
    waiting: Vec<Arc<Notify>>,
}

/// One partition of a topic.
#[derive(Debug)]
pub(crate) struct Partition {
    state: Mutex<State>,
}

impl Partition {
    /// An empty partition led by `leader`, in epoch 0.
    pub(crate) fn new(leader: i32, retention_bytes: usize) -> Self {
        let log = Log::new(retention_bytes, 0);
        let state = State {
            log,
            producers: Producers::default(),
            leader,
            waiting: Vec::new(),
        };
        Partition {
            state: Mutex::new(state),
        }
    }

    /// Who leads it.
    pub(crate) fn leadership(&self) -> Leadership {
        let state = self.state.lock();
        Leadership {
            node: state.leader,
            epoch: state.log.epoch(),
        }
    }

    /// Appends a batch; one that an idempotent producer sent before is not appended again.
    pub(crate) fn append(&self, asked: Asked, batch: Batch) -> Result<Appended, ResponseError> {
        let mut state = self.state.lock();
        state.admit(asked)?;
        let header = batch.header;
        let base = match state.producers.place(&header)? {
            Sequence::Duplicate(base) => base,
            Sequence::Next => {
                let base = state.log.append(batch);
                state.producers.appended(&header, base);
                base
            }
        };
        let appended = Appended {
            base,
            start: state.log.start(),
        };
        wake(state);
        Ok(appended)
    }

    /// Reads what is there. If that is less than `enough` bytes, `waiter` is woken by the next change.
    pub(crate) fn read(
        &self,
        asked: Asked,
        wanted: Wanted,
        waiter: Option<(&Arc<Notify>, usize)>,
    ) -> Result<Read, ResponseError> {
        let mut state = self.state.lock();
        state.admit(asked)?;
        let log = &state.log;
        let (start, end, stable) = (log.start(), log.end(), log.stable());
        let below = if wanted.committed { stable } else { end };
        let slice = log.read(wanted.from, below, wanted.max_bytes, wanted.at_least_one)?;
        let aborted = wanted.committed.then(|| log.aborted(wanted.from, below));
        if let Some((waiter, enough)) = waiter
            && slice.len_bytes < enough
            && !state.waiting.iter().any(|known| Arc::ptr_eq(known, waiter))
        {
            state.waiting.push(Arc::clone(waiter));
        }
        Ok(Read {
            slice,
            end,
            stable,
            start,
            aborted,
        })
    }

    /// A waiter is gone.
    pub(crate) fn forget(&self, waiter: &Arc<Notify>) {
        self.state.lock().waiting.retain(|known| !Arc::ptr_eq(known, waiter));
    }

    /// Finds an offset. None if there is no such record.
    pub(crate) fn find(
        &self,
        asked: Asked,
        position: Position,
        committed: bool,
    ) -> Result<Option<Found>, ResponseError> {
        let state = self.state.lock();
        state.admit(asked)?;
        let log = &state.log;
        let below = if committed { log.stable() } else { log.end() };
        let at = |offset, epoch| {
            Some(Found {
                offset,
                timestamp: -1,
                epoch,
            })
        };
        Ok(match position {
            Position::Latest => at(below, log.epoch()),
            Position::Earliest => at(log.start(), log.epoch_at(log.start())),
            Position::MaxTimestamp => log.at_max_timestamp(),
            Position::Timestamp(timestamp) => log.at_timestamp(timestamp, below),
        })
    }

    /// Where an epoch ends, as (epoch, offset).
    pub(crate) fn end_of_epoch(&self, asked: Asked, epoch: i32) -> Result<(i32, i64), ResponseError> {
        let state = self.state.lock();
        state.admit(asked)?;
        Ok(state.log.end_of_epoch(epoch))
    }

    /// Deletes the records below `offset` (-1: all there are) and gives the new start.
    pub(crate) fn delete_below(&self, asked: Asked, offset: i64) -> Result<i64, ResponseError> {
        let mut state = self.state.lock();
        state.admit(asked)?;
        let offset = if offset == -1 { state.log.end() } else { offset };
        state.log.delete_below(offset)?;
        let start = state.log.start();
        wake(state);
        Ok(start)
    }

    /// Wakes whoever waits, to look again: the topic is gone.
    pub(crate) fn wake(&self) {
        wake(self.state.lock());
    }
}

impl State {
    /// Only the leader answers, and only who knows the present epoch is answered.
    fn admit(&self, asked: Asked) -> Result<(), ResponseError> {
        if asked.node != self.leader {
            return Err(ResponseError::NotLeaderOrFollower);
        }
        match asked.epoch {
            -1 => Ok(()),
            epoch if epoch < self.log.epoch() => Err(ResponseError::FencedLeaderEpoch),
            epoch if epoch > self.log.epoch() => Err(ResponseError::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }
}

/// Ends the lock, then wakes: a woken reader must not run into it.
fn wake(mut state: parking_lot::MutexGuard<'_, State>) {
    let waiting = std::mem::take(&mut state.waiting);
    drop(state);
    for waiter in waiting {
        waiter.notify_one();
    }
}
