//! Batches of transactions that are not decided yet, held back until they are.
//!
//! - Batches are held by producer id, until a control batch of that id: it decides all of them below its offset, whatever
//!   its epoch (the coordinator aborts a transaction that timed out with a higher one).
//! - Committed batches are delivered then, aborted ones dropped. A control batch without held batches means nothing.
//! - Other records are not held up, so records are delivered out of order across producers.
//! - Batches are held as they came, compressed, in memory of their own: what is held is what is counted.

use std::collections::{HashMap, VecDeque};

use crate::record_batch::{RecordBatch, TransactionEnd};

/// Batches held back in one partition.
#[derive(Debug, Default)]
pub(crate) struct OpenTransactions {
    by_producer: HashMap<i64, VecDeque<RecordBatch>>,
    bytes: usize,
}

// === impl OpenTransactions ===

impl OpenTransactions {
    /// Holds a batch of an open transaction.
    pub(crate) fn hold(&mut self, batch: &RecordBatch) {
        let batch = batch.to_owned_memory();
        self.bytes += batch.size_bytes();
        self.by_producer.entry(batch.producer_id).or_default().push_back(batch);
    }

    /// The transaction of this producer has ended by a control batch at `offset`: gives the batches to deliver, in the order of
    /// their offsets.
    pub(crate) fn end(&mut self, producer_id: i64, offset: i64, end: TransactionEnd) -> VecDeque<RecordBatch> {
        let Some(mut decided) = self.by_producer.remove(&producer_id) else {
            return VecDeque::new();
        };
        let undecided = decided.split_off(decided.partition_point(|batch| batch.base_offset < offset));
        if !undecided.is_empty() {
            self.by_producer.insert(producer_id, undecided);
        }
        self.bytes -= decided.iter().map(RecordBatch::size_bytes).sum::<usize>();
        match end {
            TransactionEnd::Committed => decided,
            TransactionEnd::Aborted => VecDeque::new(),
        }
    }

    /// The lowest offset that is held: everything below it is decided.
    pub(crate) fn first_offset(&self) -> Option<i64> {
        let firsts = self.by_producer.values().filter_map(VecDeque::front);
        firsts.map(|batch| batch.first_offset).min()
    }

    /// The memory that is held, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops the batch with the lowest offset, and gives it.
    pub(crate) fn drop_oldest(&mut self) -> Option<RecordBatch> {
        let oldest = self
            .by_producer
            .iter()
            .min_by_key(|(_, held)| held.front().map(|batch| batch.base_offset));
        let producer_id = *oldest?.0;
        let held = self.by_producer.get_mut(&producer_id)?;
        let batch = held.pop_front()?;
        if held.is_empty() {
            self.by_producer.remove(&producer_id);
        }
        self.bytes -= batch.size_bytes();
        Some(batch)
    }

    /// Forgets everything: the log is another one, or is read from another offset.
    pub(crate) fn clear(&mut self) {
        self.by_producer.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests;
