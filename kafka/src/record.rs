//! A record to be written.

use std::time::{SystemTime, UNIX_EPOCH};

use shared::{record_headers::HeaderBuf, varint::MAX_VARINT_BYTES};

use crate::record_batch::RecordToWrite;

/// What the format has around key and value, at most: the length of the record, attributes, two deltas, two lengths and the
/// number of headers.
const OVERHEAD_BYTES: usize = 1 + 6 * 3 + MAX_VARINT_BYTES;

/// A record to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The key, if it has one.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers.
    pub headers: HeaderBuf,
    /// When it was made, in milliseconds since 1970: its time counts from then on, however long it is queued.
    pub timestamp_ms: i64,
}

// === impl Record ===

impl Record {
    /// A record without headers, made now.
    #[must_use]
    pub fn new(key: Vec<u8>, value: Vec<u8>) -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            key: Some(key),
            value: Some(value),
            headers: HeaderBuf::new(),
            timestamp_ms: i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX),
        }
    }

    /// The room it takes in a batch of up to 2 MiB, in bytes, never less than it really is.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let field = |field: &Option<Vec<u8>>| field.as_ref().map_or(0, Vec::len);
        field(&self.key) + field(&self.value) + self.headers.as_headers().encoded().len() + OVERHEAD_BYTES
    }

    pub(crate) fn to_write(&self) -> RecordToWrite<'_> {
        RecordToWrite {
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: self.headers.as_headers(),
            timestamp_ms: self.timestamp_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record_batch::encode;

    #[test]
    fn a_record_is_never_larger_than_its_size() {
        let empty = encode([].into_iter(), 0).len();
        for bytes in [0, 1, 63, 64, 1_000, 7_000, 100_000] {
            for headers in [0, 1, 5] {
                let mut record = Record::new(vec![0; 36], vec![0; bytes]);
                for _ in 0..headers {
                    record.headers.push(&"n".repeat(bytes / 8), &vec![0; bytes / 8]);
                }
                let real = encode([record.to_write()].into_iter(), 0).len() - empty;
                assert!((real..real + 32).contains(&record.size_bytes()), "{bytes} {headers}");
            }
        }
    }
}
