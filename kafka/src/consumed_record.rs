//! A record as it was read. It shares the memory of its batch, with one reference for all its parts.

use std::fmt;

use bytes::Bytes;
use shared::{
    record_headers::Headers,
    varint::{put_bytes, put_varint, take_bytes, take_varint},
};

use crate::record::Record;

/// A record as it was read.
#[derive(Clone, PartialEq, Eq)]
pub struct ConsumedRecord {
    offset: i64,
    timestamp_ms: i64,
    /// Its fields from the key on, in the record format.
    fields: Bytes,
    key: Option<Part>,
    value: Option<Part>,
    headers_start: u32,
    header_count: u32,
}

/// A part of the fields: 32 bits, because records are moved often, and are smaller than 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    start: u32,
    end: u32,
}

// === impl ConsumedRecord ===

impl ConsumedRecord {
    /// Reads the fields of a record from the key on. `None` when they are malformed, or something follows them.
    #[inline]
    pub(crate) fn read(offset: i64, timestamp_ms: i64, fields: Bytes) -> Option<Self> {
        let mut rest = &*fields;
        let key = Part::take(&fields, &mut rest)?;
        let value = Part::take(&fields, &mut rest)?;
        let header_count = u32::try_from(take_varint(&mut rest)?).ok()?;
        let headers_start = u32::try_from(fields.len() - rest.len()).ok()?;
        Headers::take(usize::try_from(header_count).ok()?, &mut rest)?;
        if !rest.is_empty() {
            return None;
        }
        Some(Self {
            offset,
            timestamp_ms,
            key,
            value,
            headers_start,
            header_count,
            fields,
        })
    }

    /// Its offset in the partition.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Milliseconds since 1970: when its producer says that it made the record, by the producer's clock; or when the broker
    /// appended it, where the topic has `message.timestamp.type=LogAppendTime`.
    #[must_use]
    pub fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    /// Its key, if it has one.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.key.map(|key| key.of(&self.fields))
    }

    /// Its key, shared.
    #[must_use]
    pub fn key_bytes(&self) -> Option<Bytes> {
        self.key().map(|key| self.fields.slice_ref(key))
    }

    /// Its value; `None` is a tombstone.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.value.map(|value| value.of(&self.fields))
    }

    /// Its value, shared.
    #[must_use]
    pub fn value_bytes(&self) -> Option<Bytes> {
        self.value().map(|value| self.fields.slice_ref(value))
    }

    /// Its headers.
    #[must_use]
    pub fn headers(&self) -> Headers<'_> {
        let encoded = self.fields.get(self.headers_start as usize..);
        Headers::of_encoded(self.header_count as usize, encoded.unwrap_or_default())
    }
}

impl From<Record> for ConsumedRecord {
    /// The record as a consumer would read it, at offset 0.
    ///
    /// # Panics
    /// When it has 4 GiB.
    fn from(record: Record) -> Self {
        let headers = record.headers.as_headers();
        let mut fields = Vec::with_capacity(record.size_bytes());
        put_bytes(&mut fields, record.key.as_deref());
        put_bytes(&mut fields, record.value.as_deref());
        put_varint(&mut fields, headers.len().cast_signed() as i64);
        fields.extend_from_slice(headers.encoded());
        #[expect(clippy::expect_used, reason = "the fields were written by this function")]
        Self::read(0, record.timestamp_ms, fields.into()).expect("a record is smaller than 4 GiB")
    }
}

impl fmt::Debug for ConsumedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        f.debug_struct("ConsumedRecord")
            .field("offset", &self.offset)
            .field("timestamp_ms", &self.timestamp_ms)
            .field("key", &self.key().map(text))
            .field("value", &self.value().map(text))
            .field("headers", &self.headers())
            .finish_non_exhaustive()
    }
}

// === impl Part ===

impl Part {
    /// Takes a length and as many bytes off the front of `rest`, which ends `fields`: the inner `None` is null, the outer one
    /// malformed.
    #[inline]
    fn take(fields: &[u8], rest: &mut &[u8]) -> Option<Option<Self>> {
        let Some(taken) = take_bytes(rest)? else {
            return Some(None);
        };
        let end = fields.len() - rest.len();
        Some(Some(Self {
            start: u32::try_from(end - taken.len()).ok()?,
            end: u32::try_from(end).ok()?,
        }))
    }

    #[inline]
    fn of(self, fields: &[u8]) -> &[u8] {
        // It was taken from these fields.
        fields.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}
