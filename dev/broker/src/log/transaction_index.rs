//! Open and aborted transactions of a log (KIP-98): they give the last stable offset, and the aborted transactions of a
//! fetch. Kafka's `TransactionIndex` and the open transactions of its `ProducerStateManager`.

use std::collections::BTreeMap;

use crate::batch::{Header, records};

/// An aborted transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AbortedTxn {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
    /// The offset of the abort marker.
    last_offset: i64,
}

/// The transactions of one log.
#[derive(Debug, Default)]
pub(crate) struct TransactionIndex {
    /// First offset by producer id.
    open: BTreeMap<i64, i64>,
    /// In the order of their markers.
    aborted: Vec<AbortedTxn>,
}

impl TransactionIndex {
    /// Adds a transactional or a control batch.
    pub(crate) fn append(&mut self, header: &Header, base_offset: i64, records: &[u8]) {
        let producer_id = header.producer_id;
        if !header.is_control() {
            self.open.entry(producer_id).or_insert(base_offset);
            return;
        }
        // A marker without an open transaction has no effect.
        let Some(first_offset) = self.open.remove(&producer_id) else {
            return;
        };
        if records::marker_commits(records) == Some(false) {
            self.aborted.push(AbortedTxn {
                producer_id,
                first_offset,
                last_offset: base_offset,
            });
        }
    }

    /// The first offset of the oldest open transaction.
    pub(crate) fn first_open(&self) -> Option<i64> {
        self.open.values().min().copied()
    }

    /// The aborted transactions that overlap `from..max_offset`.
    pub(crate) fn aborted_txns(&self, from: i64, max_offset: i64) -> Vec<AbortedTxn> {
        let overlaps = |txn: &&AbortedTxn| txn.last_offset >= from && txn.first_offset < max_offset;
        self.aborted.iter().filter(overlaps).copied().collect()
    }

    /// The log now begins at `offset`.
    pub(crate) fn truncate_start(&mut self, offset: i64) {
        self.aborted.retain(|txn| txn.last_offset >= offset);
        for first_offset in self.open.values_mut() {
            *first_offset = offset.max(*first_offset);
        }
    }

    /// The log now ends at `offset`. A transaction without its marker is open again.
    pub(crate) fn truncate_end(&mut self, offset: i64) {
        for txn in self.aborted.extract_if(.., |txn| txn.last_offset >= offset) {
            self.open.insert(txn.producer_id, txn.first_offset);
        }
        self.open.retain(|_, first_offset| *first_offset < offset);
    }
}
