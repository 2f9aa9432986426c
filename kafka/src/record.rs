//! Records to write, and records as they were read.

use std::{collections::BTreeMap, mem};

use chrono::{DateTime, Utc};

/// The bytes of a record beside its key and value (lengths, deltas, attributes), rounded up. The varints of a record of
/// less than 8 KiB take at most this much.
const OVERHEAD_BYTES: usize = 16;

/// The bytes of a header beside its name and value: two lengths.
const HEADER_OVERHEAD_BYTES: usize = 4;

/// A record to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// The headers, each name once (rskafka keeps them in a map).
    pub headers: BTreeMap<String, Vec<u8>>,
    /// When it was created, however long it is queued afterwards.
    pub timestamp: DateTime<Utc>,
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumedRecord(pub(crate) rskafka::record::RecordAndOffset);

// === impl Record ===

impl Record {
    /// A record without headers, created now.
    #[must_use]
    pub fn new(key: Vec<u8>, value: Vec<u8>) -> Self {
        Self {
            key,
            value,
            headers: BTreeMap::new(),
            timestamp: Utc::now(),
        }
    }

    /// Its size in a batch, in bytes, never less than the real one.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + HEADER_OVERHEAD_BYTES)
            .sum();
        self.key.len() + self.value.len() + headers + OVERHEAD_BYTES
    }

    /// Moves the content out.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            key: mem::take(&mut self.key),
            value: mem::take(&mut self.value),
            headers: mem::take(&mut self.headers),
            timestamp: self.timestamp,
        }
    }

    pub(crate) fn into_client(self) -> rskafka::record::Record {
        rskafka::record::Record {
            key: Some(self.key),
            value: Some(self.value),
            headers: self.headers,
            timestamp: self.timestamp,
        }
    }
}

// === impl ConsumedRecord ===

impl ConsumedRecord {
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

    /// Its headers. Of several with the same name, the last.
    #[must_use]
    pub fn headers(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.0.record.headers
    }

    /// Its value; `None` is a tombstone.
    #[must_use]
    pub fn into_value(self) -> Option<Vec<u8>> {
        self.0.record.value
    }

    /// Its timestamp in milliseconds since 1970, by the producer's clock.
    #[must_use]
    pub fn timestamp_ms(&self) -> i64 {
        self.0.record.timestamp.timestamp_millis()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The bytes of a length as a zigzag varint.
    fn length_bytes(length: usize) -> usize {
        1 + (2 * length).max(1).ilog2() as usize / 7
    }

    #[test]
    fn timestamp_is_the_creation_time() {
        let created = Utc::now() - Duration::from_secs(2);
        let record = Record {
            timestamp: created,
            ..Record::new(Vec::new(), Vec::new())
        };
        assert_eq!(record.into_client().timestamp, created);
    }

    #[test]
    fn size_is_never_less_than_the_encoded_size() {
        for bytes in [0, 1, 63, 64, 1_000, 7_000] {
            for headers in 0..5 {
                let (name, value) = ("n".repeat(bytes / 8), vec![0; bytes / 8]);
                let mut record = Record::new(vec![0; 36], vec![0; bytes / 2]);
                record.headers = (0..headers).map(|n| (format!("{n}{name}"), value.clone())).collect();
                let field = |length: usize| length_bytes(length) + length;
                let of_headers: usize = record
                    .headers
                    .iter()
                    .map(|(name, value)| field(name.len()) + field(value.len()))
                    .sum();
                // Attributes, and two deltas of the size of a batch.
                let body = 1 + 3 + 2 + field(36) + field(bytes / 2) + length_bytes(headers) + of_headers;
                let real = field(body);
                assert!(
                    (real..real + 16 + 4 * headers).contains(&record.size_bytes()),
                    "{bytes} {headers}"
                );
            }
        }
    }
}
