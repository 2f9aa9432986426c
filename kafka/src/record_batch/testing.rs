//! Batches as a broker stores them, for tests.

use super::{CHECKED_FROM, CONTROL, RecordToWrite, TRANSACTIONAL, TransactionEnd, encode};
use shared::record_headers::Headers;

/// A batch of records without keys and headers.
#[derive(Debug, Clone)]
pub(crate) struct TestBatch {
    base_offset: i64,
    /// Value and timestamp of each record.
    records: Vec<(Vec<u8>, i64)>,
    key: Option<Vec<u8>>,
    producer_id: i64,
    attributes: i16,
    is_corrupt: bool,
}

impl TestBatch {
    /// Records with the offsets of `offsets` as values, and timestamps `epoch_ms` + offset.
    pub(crate) fn new(offsets: std::ops::Range<i64>, epoch_ms: i64) -> Self {
        Self {
            base_offset: offsets.start,
            records: offsets
                .map(|offset| (offset.to_string().into_bytes(), epoch_ms + offset))
                .collect(),
            key: None,
            producer_id: -1,
            attributes: 0,
            is_corrupt: false,
        }
    }

    /// Part of an open transaction of this producer.
    pub(crate) fn transactional(self, producer_id: i64) -> Self {
        Self {
            producer_id,
            attributes: TRANSACTIONAL,
            ..self
        }
    }

    /// The control batch that ends the transaction of this producer.
    pub(crate) fn end(offset: i64, producer_id: i64, end: TransactionEnd) -> Self {
        let kind = match end {
            TransactionEnd::Aborted => 0,
            TransactionEnd::Committed => 1,
        };
        Self {
            records: vec![(vec![0; 6], 0)],
            key: Some(vec![0, 0, 0, kind]),
            attributes: TRANSACTIONAL | CONTROL,
            ..Self::new(offset..offset + 1, 0).transactional(producer_id)
        }
    }

    /// With a value of so many bytes in each record.
    pub(crate) fn with_values_of(mut self, bytes: usize) -> Self {
        self.records.iter_mut().for_each(|(value, _)| value.resize(bytes, b' '));
        self
    }

    /// With a wrong checksum.
    pub(crate) fn corrupt(self) -> Self {
        Self {
            is_corrupt: true,
            ..self
        }
    }

    /// Compressed by a codec that does not exist: the batch is intact but cannot be decoded.
    pub(crate) fn undecodable(self) -> Self {
        Self {
            attributes: self.attributes | 7,
            ..self
        }
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let records = self.records.iter().map(|(value, timestamp_ms)| RecordToWrite {
            key: self.key.as_deref(),
            value: Some(value),
            headers: Headers::default(),
            timestamp_ms: *timestamp_ms,
        });
        let mut bytes = encode(records, 0);
        bytes[..8].copy_from_slice(&self.base_offset.to_be_bytes());
        bytes[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        bytes[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        let checksum = crc32c::crc32c(&bytes[CHECKED_FROM..]) ^ u32::from(self.is_corrupt);
        bytes[17..21].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }
}
