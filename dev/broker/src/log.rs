//! The log of one partition: its batches in order, and the offsets of Kafka's `UnifiedLog`.
//!
//! `start_offset <= last_stable_offset <= end_offset` always holds. There is one replica, so the high watermark is the
//! end offset. The log is plain data: `partition` owns the lock, the waiting fetches and the leader.

mod leader_epoch_cache;
mod transaction_index;

use std::collections::VecDeque;

use bytes::Bytes;

pub(crate) use self::transaction_index::AbortedTxn;
use self::{leader_epoch_cache::LeaderEpochCache, transaction_index::TransactionIndex};
use crate::batch::{Batch, HEADER_BYTES, Header, records};

/// An offset below the start or above the end of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OffsetOutOfRange;

/// An offset with its timestamp and its leader epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimestampAndOffset {
    pub(crate) offset: i64,
    /// In ms since the epoch; -1 if the request did not ask for a time.
    pub(crate) timestamp: i64,
    /// -1 if unknown.
    pub(crate) leader_epoch: i32,
}

/// The batches of a read; they share the bytes of the log.
#[derive(Debug, Default)]
pub(crate) struct FetchedBatches {
    pub(crate) batches: Vec<Bytes>,
    /// The size of all batches.
    pub(crate) size_bytes: usize,
}

/// The batches of one partition.
#[derive(Debug)]
pub(crate) struct Log {
    batches: VecDeque<StoredBatch>,
    start_offset: i64,
    end_offset: i64,
    size_bytes: usize,
    retention_bytes: usize,
    leader_epochs: LeaderEpochCache,
    transactions: TransactionIndex,
}

#[derive(Debug)]
struct StoredBatch {
    base_offset: i64,
    last_offset: i64,
    max_timestamp: i64,
    bytes: Bytes,
}

// === impl Log ===

impl Log {
    /// An empty log in `leader_epoch` that retains about `retention_bytes`.
    pub(crate) fn new(retention_bytes: usize, leader_epoch: i32) -> Self {
        Log {
            batches: VecDeque::new(),
            start_offset: 0,
            end_offset: 0,
            size_bytes: 0,
            retention_bytes,
            leader_epochs: LeaderEpochCache::new(leader_epoch),
            transactions: TransactionIndex::default(),
        }
    }

    /// The lowest readable offset.
    pub(crate) fn start_offset(&self) -> i64 {
        self.start_offset
    }

    /// The offset of the next record, and the high watermark.
    pub(crate) fn end_offset(&self) -> i64 {
        self.end_offset
    }

    /// No transaction below this offset is open (KIP-98).
    pub(crate) fn last_stable_offset(&self) -> i64 {
        self.transactions.first_open().unwrap_or(self.end_offset)
    }

    /// The offset that readers stay below.
    pub(crate) fn max_offset(&self, read_committed: bool) -> i64 {
        if read_committed {
            self.last_stable_offset()
        } else {
            self.end_offset
        }
    }

    /// The current leader epoch.
    pub(crate) fn leader_epoch(&self) -> i32 {
        self.leader_epochs.current()
    }

    /// Appends a batch, and gives its base offset. Deletes the oldest batches beyond the retention size.
    pub(crate) fn append(&mut self, batch: Batch) -> i64 {
        let base_offset = self.end_offset;
        let header = batch.header;
        if header.is_transactional() || header.is_control() {
            self.transactions.append(&header, base_offset, batch.records());
        }
        let last_offset = base_offset.saturating_add(i64::from(header.last_offset_delta));
        let bytes = batch.assign_offset(base_offset, self.leader_epochs.current());
        self.size_bytes += memory_bytes(&bytes);
        self.batches.push_back(StoredBatch {
            base_offset,
            last_offset,
            max_timestamp: header.max_timestamp,
            bytes,
        });
        self.end_offset = last_offset.saturating_add(1);
        while self.size_bytes > self.retention_bytes && self.batches.len() > 1 {
            self.delete_oldest();
        }
        base_offset
    }

    /// Reads whole batches, from the one that holds `from` on, each with its base offset below `max_offset`.
    ///
    /// They are at most `max_bytes` long; with `min_one_batch` the first one is read whatever its size (KIP-74).
    pub(crate) fn read(
        &self,
        from: i64,
        max_offset: i64,
        max_bytes: usize,
        min_one_batch: bool,
    ) -> Result<FetchedBatches, OffsetOutOfRange> {
        if from < self.start_offset || from > self.end_offset {
            return Err(OffsetOutOfRange);
        }
        let mut fetched = FetchedBatches::default();
        for stored in self.batches.range(self.index_of(from)..) {
            let is_first = min_one_batch && fetched.batches.is_empty();
            let fits = fetched.size_bytes + stored.bytes.len() <= max_bytes;
            if stored.base_offset >= max_offset || !(fits || is_first) {
                break;
            }
            fetched.size_bytes += stored.bytes.len();
            fetched.batches.push(stored.bytes.clone());
        }
        Ok(fetched)
    }

    /// The first record at or after `timestamp`, below `max_offset`.
    ///
    /// In a compressed batch it is the first record of the batch, because the broker does not decompress.
    pub(crate) fn find_timestamp(&self, timestamp: i64, max_offset: i64) -> Option<TimestampAndOffset> {
        self.batches
            .iter()
            .filter(|stored| stored.max_timestamp >= timestamp && stored.last_offset >= self.start_offset)
            .find_map(|stored| self.find_in_batch(stored, timestamp))
            .filter(|found| found.offset < max_offset)
    }

    /// The first record with the largest timestamp (KIP-734).
    pub(crate) fn max_timestamp(&self) -> Option<TimestampAndOffset> {
        let max = self.batches.iter().map(|stored| stored.max_timestamp).max()?;
        self.find_timestamp(max, self.end_offset)
    }

    /// The leader epoch of an offset; -1 if unknown.
    pub(crate) fn epoch_for_offset(&self, offset: i64) -> i32 {
        self.leader_epochs.epoch_for_offset(offset)
    }

    /// The largest known epoch up to `epoch`, and its end offset (KIP-320). -1 and -1 if unknown.
    pub(crate) fn end_offset_for_epoch(&self, epoch: i32) -> (i32, i64) {
        self.leader_epochs.end_offset_for(epoch, self.end_offset)
    }

    /// The aborted transactions that overlap `from..max_offset`.
    pub(crate) fn aborted_txns(&self, from: i64, max_offset: i64) -> Vec<AbortedTxn> {
        self.transactions.aborted_txns(from, max_offset)
    }

    /// Moves the start to `offset`. A batch that holds `offset` stays (KIP-107).
    pub(crate) fn delete_records(&mut self, offset: i64) -> Result<(), OffsetOutOfRange> {
        if offset < 0 || offset > self.end_offset {
            return Err(OffsetOutOfRange);
        }
        self.start_offset = self.start_offset.max(offset);
        while self
            .batches
            .front()
            .is_some_and(|oldest| oldest.last_offset < self.start_offset)
        {
            self.delete_oldest();
        }
        self.transactions.truncate_start(self.start_offset);
        Ok(())
    }

    /// Begins the next leader epoch at the end.
    pub(crate) fn begin_epoch(&mut self) {
        self.leader_epochs.begin(self.end_offset);
    }

    /// Removes the batches that reach `offset` or beyond, and begins a leader epoch at `offset`, as an unclean leader
    /// election does.
    pub(crate) fn truncate(&mut self, offset: i64) -> Result<(), OffsetOutOfRange> {
        if offset < self.start_offset || offset > self.end_offset {
            return Err(OffsetOutOfRange);
        }
        while let Some(newest) = self.batches.pop_back_if(|newest| newest.last_offset >= offset) {
            self.size_bytes -= memory_bytes(&newest.bytes);
        }
        self.end_offset = offset;
        self.transactions.truncate_end(offset);
        self.leader_epochs.begin(offset);
        Ok(())
    }

    fn delete_oldest(&mut self) {
        if let Some(oldest) = self.batches.pop_front() {
            self.size_bytes -= memory_bytes(&oldest.bytes);
            self.start_offset = self.start_offset.max(oldest.last_offset.saturating_add(1));
            self.transactions.truncate_start(self.start_offset);
        }
    }

    /// Index of the first batch that ends at or beyond `offset`.
    fn index_of(&self, offset: i64) -> usize {
        self.batches.partition_point(|stored| stored.last_offset < offset)
    }

    fn find_in_batch(&self, stored: &StoredBatch, timestamp: i64) -> Option<TimestampAndOffset> {
        let header = Header::read(&stored.bytes)?;
        let found = |offset, timestamp| TimestampAndOffset {
            offset,
            timestamp,
            leader_epoch: self.leader_epochs.epoch_for_offset(offset),
        };
        if header.is_compressed() {
            return Some(found(stored.base_offset.max(self.start_offset), header.base_timestamp));
        }
        records::deltas(stored.bytes.get(HEADER_BYTES..)?)
            .map(|delta| {
                let offset = stored.base_offset.saturating_add(delta.offset);
                found(offset, header.base_timestamp.saturating_add(delta.timestamp))
            })
            .find(|found| found.timestamp >= timestamp && found.offset >= self.start_offset)
    }
}

/// The memory of a batch: its bytes and its entry in the queue.
fn memory_bytes(bytes: &Bytes) -> usize {
    bytes.len() + size_of::<StoredBatch>()
}

#[cfg(test)]
mod tests;
