//! The log of one partition: whole batches in order, and the offsets around them.
//!
//! `start <= first unstable offset <= end` always holds. There is one replica, so the high watermark is the end. The log
//! is plain data: its lock, its waiters and its leader belong to `partition`.

mod epochs;
mod transactions;

use std::collections::VecDeque;

use bytes::Bytes;

pub(crate) use self::transactions::Aborted;
use self::{epochs::Epochs, transactions::Transactions};
use crate::batch::{Batch, HEADER_BYTES, Header, records};

/// A batch with its place.
#[derive(Debug)]
struct Stored {
    base: i64,
    last: i64,
    max_timestamp: i64,
    bytes: Bytes,
}

/// An offset before the start or past the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfRange;

/// Some offset, the timestamp there and the epoch it was written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// The offset.
    pub(crate) offset: i64,
    /// Milliseconds since the epoch; -1 where the question was not about time.
    pub(crate) timestamp: i64,
    /// The leader epoch; -1 where there is none.
    pub(crate) epoch: i32,
}

/// What a read found: whole batches, sharing the bytes of the log.
#[derive(Debug, Default)]
pub(crate) struct Slice {
    /// The batches in order.
    pub(crate) batches: Vec<Bytes>,
    /// Their size together.
    pub(crate) len_bytes: usize,
}

/// The batches of one partition.
#[derive(Debug)]
pub(crate) struct Log {
    batches: VecDeque<Stored>,
    start: i64,
    end: i64,
    held_bytes: usize,
    retention_bytes: usize,
    epochs: Epochs,
    transactions: Transactions,
}

impl Log {
    /// An empty log that keeps about `retention_bytes` and begins in `epoch`.
    pub(crate) fn new(retention_bytes: usize, epoch: i32) -> Self {
        Log {
            batches: VecDeque::new(),
            start: 0,
            end: 0,
            held_bytes: 0,
            retention_bytes,
            epochs: Epochs::new(epoch),
            transactions: Transactions::default(),
        }
    }

    /// The lowest offset that can be read.
    pub(crate) fn start(&self) -> i64 {
        self.start
    }

    /// The offset the next record gets; with one replica also the high watermark.
    pub(crate) fn end(&self) -> i64 {
        self.end
    }

    /// The last stable offset: no transaction below it is open (KIP-98).
    pub(crate) fn stable(&self) -> i64 {
        self.transactions.first_open().unwrap_or(self.end)
    }

    /// The epoch batches are written in.
    pub(crate) fn epoch(&self) -> i32 {
        self.epochs.current()
    }

    /// Appends a batch and gives its first offset. The oldest batches go when the log has become too large.
    pub(crate) fn append(&mut self, batch: Batch) -> i64 {
        let base = self.end;
        let header = batch.header;
        if header.is_transactional() || header.is_control() {
            self.transactions.note(&header, base, batch.records());
        }
        let last = base.saturating_add(i64::from(header.last_offset_delta));
        let bytes = batch.number(base, self.epochs.current());
        self.held_bytes += held(&bytes);
        self.batches.push_back(Stored {
            base,
            last,
            max_timestamp: header.max_timestamp,
            bytes,
        });
        self.end = last.saturating_add(1);
        while self.held_bytes > self.retention_bytes && self.batches.len() > 1 {
            self.drop_oldest();
        }
        base
    }

    /// Reads whole batches from the one that holds `from` on, none that begins at or past `below`.
    ///
    /// They are at most `max_bytes` together, except that the first is given whatever its size if `at_least_one` (KIP-74).
    pub(crate) fn read(
        &self,
        from: i64,
        below: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Slice, OutOfRange> {
        if from < self.start || from > self.end {
            return Err(OutOfRange);
        }
        let mut slice = Slice::default();
        for stored in self.batches.range(self.position(from)..) {
            let free = at_least_one && slice.batches.is_empty();
            let fits = slice.len_bytes + stored.bytes.len() <= max_bytes;
            if stored.base >= below || !(fits || free) {
                break;
            }
            slice.len_bytes += stored.bytes.len();
            slice.batches.push(stored.bytes.clone());
        }
        Ok(slice)
    }

    /// The first record with this timestamp or a later one, and below `below`.
    ///
    /// Inside a packed batch it is the first record of that batch: the broker does not unpack.
    pub(crate) fn at_timestamp(&self, timestamp: i64, below: i64) -> Option<Found> {
        self.batches
            .iter()
            .filter(|stored| stored.max_timestamp >= timestamp && stored.last >= self.start)
            .find_map(|stored| self.record_in(stored, |at| at >= timestamp))
            .filter(|found| found.offset < below)
    }

    /// The first record that has the largest timestamp (KIP-734).
    pub(crate) fn at_max_timestamp(&self) -> Option<Found> {
        let max = self.batches.iter().map(|stored| stored.max_timestamp).max()?;
        self.at_timestamp(max, self.end)
    }

    /// The epoch at an offset; -1 if none is known.
    pub(crate) fn epoch_at(&self, offset: i64) -> i32 {
        self.epochs.at(offset)
    }

    /// Where the largest epoch up to `epoch` ends: that epoch and the offset (KIP-320). -1 and -1 if unknown.
    pub(crate) fn end_of_epoch(&self, epoch: i32) -> (i32, i64) {
        self.epochs.end_of(epoch, self.end)
    }

    /// The aborted transactions a reader of `from..below` must know.
    pub(crate) fn aborted(&self, from: i64, below: i64) -> Vec<Aborted> {
        self.transactions.aborted(from, below)
    }

    /// Forgets everything below `offset`, which may lie inside a batch: that batch stays (KIP-107).
    pub(crate) fn delete_below(&mut self, offset: i64) -> Result<(), OutOfRange> {
        if offset < 0 || offset > self.end {
            return Err(OutOfRange);
        }
        self.start = self.start.max(offset);
        while self.batches.front().is_some_and(|oldest| oldest.last < self.start) {
            self.drop_oldest();
        }
        self.transactions.delete_below(self.start);
        Ok(())
    }

    /// Begins a new epoch at the end, as a new leader does.
    #[cfg_attr(
        not(any(test, feature = "faults")),
        allow(dead_code, reason = "only a fault moves a leader")
    )]
    pub(crate) fn begin_epoch(&mut self) {
        self.epochs.begin(self.end);
    }

    /// Forgets everything from `offset` on, whole batches only, and goes on from there in a new epoch: what an unclean
    /// leader election does to a log.
    #[cfg_attr(
        not(any(test, feature = "faults")),
        allow(dead_code, reason = "only a fault truncates a log")
    )]
    pub(crate) fn truncate(&mut self, offset: i64) -> Result<(), OutOfRange> {
        if offset < self.start || offset > self.end {
            return Err(OutOfRange);
        }
        while let Some(newest) = self.batches.pop_back_if(|newest| newest.last >= offset) {
            self.held_bytes -= held(&newest.bytes);
        }
        self.end = offset;
        self.transactions.truncate(offset);
        self.epochs.truncate(offset);
        Ok(())
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.batches.pop_front() {
            self.held_bytes -= held(&oldest.bytes);
            self.start = self.start.max(oldest.last.saturating_add(1));
            self.transactions.delete_below(self.start);
        }
    }

    /// Index of the first batch that ends at or past `offset`.
    fn position(&self, offset: i64) -> usize {
        self.batches.partition_point(|stored| stored.last < offset)
    }

    fn record_in(&self, stored: &Stored, wanted: impl Fn(i64) -> bool) -> Option<Found> {
        let header = Header::read(&stored.bytes)?;
        let found = |offset, timestamp| Found {
            offset,
            timestamp,
            epoch: self.epochs.at(offset),
        };
        if header.is_compressed() {
            return Some(found(stored.base.max(self.start), header.base_timestamp));
        }
        records::stamps(stored.bytes.get(HEADER_BYTES..)?)
            .map(|stamp| {
                let offset = stored.base.saturating_add(stamp.offset_delta);
                found(offset, header.base_timestamp.saturating_add(stamp.timestamp_delta))
            })
            .find(|found| wanted(found.timestamp) && found.offset >= self.start)
    }
}

/// What a batch costs: its bytes and its place in the queue.
fn held(bytes: &Bytes) -> usize {
    bytes.len() + size_of::<Stored>()
}

#[cfg(test)]
mod tests;
