//! One partition: its log, its leader, its producers and the fetches that wait for it.
//!
//! One lock guards all of it, for a few pointer moves and never across an await. A change of what readers may see takes
//! the waiting fetches out under the lock, and wakes them after it.

use std::{ops::Range, sync::Arc};

use kafka_protocol::error::ResponseError;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::{
    batch::Batch,
    log::{AbortedTxn, FetchedBatches, Log, OffsetOutOfRange, TimestampAndOffset},
    producer_state::{ProducerStateManager, SequenceCheck},
};

impl From<OffsetOutOfRange> for ResponseError {
    fn from(_: OffsetOutOfRange) -> Self {
        ResponseError::OffsetOutOfRange
    }
}

/// The leader of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) node: i32,
    /// Grows with every change of the leader.
    pub(crate) epoch: i32,
}

/// The leader and the epoch that a request expects.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeaderCheck {
    /// The node that received the request.
    pub(crate) node: i32,
    /// The leader epoch that the client knows; -1 if the request names none (KIP-320).
    pub(crate) current_leader_epoch: i32,
}

/// What a fetch asks of one partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FetchParams {
    pub(crate) fetch_offset: i64,
    pub(crate) max_bytes: usize,
    /// Return the first batch even if it is larger than `max_bytes` (KIP-74).
    pub(crate) min_one_batch: bool,
    /// Isolation level `READ_COMMITTED` (KIP-98).
    pub(crate) read_committed: bool,
}

/// What a fetch gets from one partition.
#[derive(Debug)]
pub(crate) struct LogReadResult {
    pub(crate) fetched: FetchedBatches,
    pub(crate) high_watermark: i64,
    pub(crate) last_stable_offset: i64,
    pub(crate) log_start_offset: i64,
    /// The aborted transactions in the fetched range; only with `READ_COMMITTED`.
    pub(crate) aborted: Option<Vec<AbortedTxn>>,
}

/// Which offset `ListOffsets` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OffsetSpec {
    /// The high watermark, or with `READ_COMMITTED` the last stable offset.
    Latest,
    /// The log start offset.
    Earliest,
    /// The record with the largest timestamp (KIP-734).
    MaxTimestamp,
    /// The first record at or after this many ms since the epoch (KIP-79).
    Timestamp(i64),
}

/// Where a batch was appended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogAppendInfo {
    pub(crate) base_offset: i64,
    pub(crate) log_start_offset: i64,
}

/// One partition of a topic.
#[derive(Debug)]
pub(crate) struct Partition {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    log: Log,
    producers: ProducerStateManager,
    leader: i32,
    /// Fetches without enough bytes. At most one for each connection.
    delayed_fetches: Vec<Arc<Notify>>,
}

// === impl Partition ===

impl Partition {
    /// An empty partition with `leader`, in epoch 0.
    pub(crate) fn new(leader: i32, retention_bytes: usize) -> Self {
        let state = State {
            log: Log::new(retention_bytes, 0),
            producers: ProducerStateManager::default(),
            leader,
            delayed_fetches: Vec::new(),
        };
        Partition {
            state: Mutex::new(state),
        }
    }

    /// The leader and its epoch.
    pub(crate) fn leader(&self) -> Leader {
        let state = self.state.lock();
        Leader {
            node: state.leader,
            epoch: state.log.leader_epoch(),
        }
    }

    /// Appends a batch. The duplicate of an idempotent producer's batch gets the offset of the original.
    pub(crate) fn append(&self, check: LeaderCheck, batch: Batch) -> Result<LogAppendInfo, ResponseError> {
        let mut state = self.state.lock();
        state.check_leader(check)?;
        let header = batch.header;
        let base_offset = match state.producers.check_sequence(&header)? {
            SequenceCheck::Duplicate(base_offset) => base_offset,
            SequenceCheck::InOrder => {
                let base_offset = state.log.append(batch);
                state.producers.append(&header, base_offset);
                base_offset
            }
        };
        let appended = LogAppendInfo {
            base_offset,
            log_start_offset: state.log.start_offset(),
        };
        wake_fetches(state);
        Ok(appended)
    }

    /// Reads batches. If they have less than `min_bytes`, the next change wakes the `waiter`.
    pub(crate) fn read(
        &self,
        check: LeaderCheck,
        params: FetchParams,
        waiter: Option<&Arc<Notify>>,
        min_bytes: usize,
    ) -> Result<LogReadResult, ResponseError> {
        let mut state = self.state.lock();
        state.check_leader(check)?;
        let log = &state.log;
        let read = LogReadResult {
            fetched: log.read(
                params.fetch_offset,
                log.max_offset(params.read_committed),
                params.max_bytes,
                params.min_one_batch,
            )?,
            high_watermark: log.end_offset(),
            last_stable_offset: log.last_stable_offset(),
            log_start_offset: log.start_offset(),
            aborted: params
                .read_committed
                .then(|| log.aborted_txns(params.fetch_offset, log.max_offset(true))),
        };
        if let Some(waiter) = waiter
            && read.fetched.size_bytes < min_bytes
            && !state.delayed_fetches.iter().any(|known| Arc::ptr_eq(known, waiter))
        {
            state.delayed_fetches.push(Arc::clone(waiter));
        }
        Ok(read)
    }

    /// Removes a fetch that does not wait any more.
    pub(crate) fn remove_fetch(&self, waiter: &Arc<Notify>) {
        let mut state = self.state.lock();
        state.delayed_fetches.retain(|known| !Arc::ptr_eq(known, waiter));
    }

    /// Finds an offset. None if no record matches.
    pub(crate) fn find_offset(
        &self,
        check: LeaderCheck,
        spec: OffsetSpec,
        read_committed: bool,
    ) -> Result<Option<TimestampAndOffset>, ResponseError> {
        let state = self.state.lock();
        state.check_leader(check)?;
        let log = &state.log;
        let max_offset = log.max_offset(read_committed);
        let without_timestamp = |offset, leader_epoch| {
            Some(TimestampAndOffset {
                offset,
                timestamp: -1,
                leader_epoch,
            })
        };
        Ok(match spec {
            OffsetSpec::Latest => without_timestamp(max_offset, log.leader_epoch()),
            OffsetSpec::Earliest => {
                let start = log.start_offset();
                without_timestamp(start, log.epoch_for_offset(start))
            }
            OffsetSpec::MaxTimestamp => log.max_timestamp(),
            OffsetSpec::Timestamp(timestamp) => log.find_timestamp(timestamp, max_offset),
        })
    }

    /// The end offset of a leader epoch, as (epoch, offset).
    pub(crate) fn end_offset_for_epoch(&self, check: LeaderCheck, epoch: i32) -> Result<(i32, i64), ResponseError> {
        let state = self.state.lock();
        state.check_leader(check)?;
        Ok(state.log.end_offset_for_epoch(epoch))
    }

    /// Deletes the records below `offset` (-1: the high watermark), and gives the new log start offset.
    pub(crate) fn delete_records(&self, check: LeaderCheck, offset: i64) -> Result<i64, ResponseError> {
        let mut state = self.state.lock();
        state.check_leader(check)?;
        let offset = if offset == -1 { state.log.end_offset() } else { offset };
        state.log.delete_records(offset)?;
        let start = state.log.start_offset();
        wake_fetches(state);
        Ok(start)
    }

    /// Wakes all waiting fetches, so that they read again.
    pub(crate) fn wake_fetches(&self) {
        wake_fetches(self.state.lock());
    }
}

/// Only [`Faults`](crate::Faults) does this to a partition.
impl Partition {
    /// Makes another node the leader, in a new epoch.
    pub(crate) fn set_leader(&self, node: i32) {
        let mut state = self.state.lock();
        if state.leader != node {
            state.leader = node;
            state.log.begin_epoch();
        }
        wake_fetches(state);
    }

    /// Removes the batches from `offset` on.
    pub(crate) fn truncate(&self, offset: i64) -> Result<(), OffsetOutOfRange> {
        let mut state = self.state.lock();
        state.log.truncate(offset)?;
        state.producers.truncate(offset);
        wake_fetches(state);
        Ok(())
    }

    /// Appends without a check of the leader or the sequence.
    pub(crate) fn append_unchecked(&self, batch: Batch) -> i64 {
        let mut state = self.state.lock();
        let base_offset = state.log.append(batch);
        wake_fetches(state);
        base_offset
    }

    /// From the log start offset to the high watermark.
    pub(crate) fn offsets(&self) -> Range<i64> {
        let state = self.state.lock();
        state.log.start_offset()..state.log.end_offset()
    }
}

// === impl State ===

impl State {
    fn check_leader(&self, check: LeaderCheck) -> Result<(), ResponseError> {
        if check.node != self.leader {
            return Err(ResponseError::NotLeaderOrFollower);
        }
        match check.current_leader_epoch {
            -1 => Ok(()),
            epoch if epoch < self.log.leader_epoch() => Err(ResponseError::FencedLeaderEpoch),
            epoch if epoch > self.log.leader_epoch() => Err(ResponseError::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }
}

/// Releases the lock before it wakes: a woken fetch takes the lock.
fn wake_fetches(mut state: MutexGuard<'_, State>) {
    let delayed_fetches = std::mem::take(&mut state.delayed_fetches);
    drop(state);
    for waiter in delayed_fetches {
        waiter.notify_one();
    }
}
