//! Open and aborted transactions of a partition (KIP-98): what holds back the last stable offset, and what a reader of
//! committed records has to skip.

use std::collections::BTreeMap;

use crate::batch::{Header, records};

/// A transaction that came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aborted {
    /// Who wrote it.
    pub(crate) producer_id: i64,
    /// Its first record.
    pub(crate) first: i64,
    /// Its marker.
    last: i64,
}

/// The transactions of one log.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    /// First offset by producer.
    open: BTreeMap<i64, i64>,
    /// In the order of their markers.
    aborted: Vec<Aborted>,
}

impl Transactions {
    /// Takes note of a transactional or a control batch.
    pub(crate) fn note(&mut self, header: &Header, base: i64, records: &[u8]) {
        let producer_id = header.producer_id;
        if !header.is_control() {
            self.open.entry(producer_id).or_insert(base);
            return;
        }
        // A marker without a transaction (a client that had begun one elsewhere) ends nothing.
        let Some(first) = self.open.remove(&producer_id) else {
            return;
        };
        if records::marker_commits(records) == Some(false) {
            self.aborted.push(Aborted {
                producer_id,
                first,
                last: base,
            });
        }
    }

    /// The first offset of the oldest open transaction.
    pub(crate) fn first_open(&self) -> Option<i64> {
        self.open.values().min().copied()
    }

    /// The aborted transactions with anything in `from..below`.
    pub(crate) fn aborted(&self, from: i64, below: i64) -> Vec<Aborted> {
        self.aborted
            .iter()
            .filter(|gone| gone.last >= from && gone.first < below)
            .copied()
            .collect()
    }

    /// The log now begins at `offset`.
    pub(crate) fn delete_below(&mut self, offset: i64) {
        self.aborted.retain(|gone| gone.last >= offset);
        for first in self.open.values_mut() {
            *first = offset.max(*first);
        }
    }

    /// The log now ends at `offset`. A transaction whose marker is cut off is open again.
    pub(crate) fn truncate(&mut self, offset: i64) {
        for gone in self.aborted.extract_if(.., |gone| gone.last >= offset) {
            self.open.insert(gone.producer_id, gone.first);
        }
        self.open.retain(|_, first| *first < offset);
    }
}
