//! Records as the two halves see them.

use std::collections::BTreeMap;

use chrono::Utc;

/// Kafka's own bytes around a record's key and value (lengths, deltas, attributes), rounded up: the varints of a
/// record of less than 8 KiB take at most this much.
const OVERHEAD_BYTES: usize = 16;

/// A record to be written. Its timestamp is the moment it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// Headers, each name once (the client keeps them in a map).
    pub headers: BTreeMap<String, Vec<u8>>,
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received(pub(super) rskafka::record::RecordAndOffset);

// === impl Record ===

impl Record {
    /// A record without headers.
    #[must_use]
    pub fn new(key: Vec<u8>, value: Vec<u8>) -> Self {
        Self {
            key,
            value,
            headers: BTreeMap::new(),
        }
    }

    /// The room it takes in a produce frame, in bytes, never less than it really is.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + OVERHEAD_BYTES)
            .sum();
        self.key.len() + self.value.len() + headers + OVERHEAD_BYTES
    }

    pub(super) fn into_client(self) -> rskafka::record::Record {
        rskafka::record::Record {
            key: Some(self.key),
            value: Some(self.value),
            headers: self.headers,
            timestamp: Utc::now(),
        }
    }
}

// === impl Received ===

impl Received {
    /// Its offset in the partition.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.0.offset
    }

    /// Its key, if it has one.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.0.record.key.as_deref()
    }

    /// Its value; `None` is a tombstone.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.0.record.value.as_deref()
    }

    /// Its headers; of several with one name, the last.
    #[must_use]
    pub fn headers(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.0.record.headers
    }

    /// The value, taken out.
    #[must_use]
    pub fn into_value(self) -> Option<Vec<u8>> {
        self.0.record.value
    }

    /// When its producer says that it was written, in milliseconds since 1970 by the producer's clock.
    #[must_use]
    pub fn timestamp_ms(&self) -> i64 {
        self.0.record.timestamp.timestamp_millis()
    }
}
