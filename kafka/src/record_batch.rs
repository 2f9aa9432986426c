//! Record batches (magic 2, KIP-98) as a fetch brings them: one after the other, each with a checksum of its own.
//!
//! - A batch that cannot be read is reported alone, and those behind it are read on. Only a wrong length, which no checksum
//!   covers, takes the rest of the answer with it.
//! - Every length and count in a batch is its producer's claim: nothing is allocated for it unseen.
//! - Records share the memory of their batch; reading one copies nothing.
//!
//! ```text
//! base offset 8 │ length 4 │ leader epoch 4 │ magic 1 │ crc 4 │ attributes 2 │ last offset delta 4 │ base timestamp 8 │
//! max timestamp 8 │ producer id 8 │ producer epoch 2 │ base sequence 4 │ count 4 │ records
//! ```

use std::io;

use bytes::Bytes;
use shared::varint::take_varint;

use crate::{
    compression::{Compression, MAX_DECOMPRESSED_BYTES},
    consumed_record::ConsumedRecord,
};

mod encode;
#[cfg(test)]
pub(crate) mod testing;

pub(crate) use self::encode::{RecordToWrite, encode};

/// Base offset and length; the length counts what follows it.
pub(crate) const PREFIX_BYTES: usize = 12;
/// The checksum (CRC-32C) covers everything from the attributes on.
pub(crate) const CHECKED_FROM: usize = 21;
/// Everything before the records.
const HEADER_BYTES: usize = 61;
/// The smallest record: its length, attributes, two deltas, two lengths and the number of headers.
const MIN_RECORD_BYTES: usize = 7;
/// The version of the format, the only one that brokers since 4.0 store.
const MAGIC: i8 = 2;

/// `attributes`: the timestamps are the broker's (`message.timestamp.type=LogAppendTime`).
const LOG_APPEND_TIME: i16 = 0x08;
/// `attributes`: part of a transaction.
const TRANSACTIONAL: i16 = 0x10;
/// `attributes`: the record says how a transaction ended.
const CONTROL: i16 = 0x20;

/// The batches of a fetch's answer; a last one that was cut off is left out.
#[derive(Debug, Clone)]
pub(crate) struct RecordBatches {
    bytes: Bytes,
}

/// A batch whose checksum is right.
#[derive(Debug, Clone)]
pub(crate) struct RecordBatch {
    pub(crate) base_offset: i64,
    /// The offset behind its last record, which compaction may have removed.
    pub(crate) next_offset: i64,
    /// Records below this offset are left out: a fetch from the middle of a batch brings all of it.
    pub(crate) first_offset: i64,
    /// Who wrote it; -1 without idempotence.
    pub(crate) producer_id: i64,
    attributes: i16,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
    count: i32,
    /// Still compressed.
    records: Bytes,
}

/// A batch that cannot be read, and where the next one may begin.
#[derive(Debug)]
pub(crate) struct CorruptBatch {
    pub(crate) base_offset: i64,
    pub(crate) next_offset: i64,
    pub(crate) cause: Malformed,
}

/// Why a batch cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the batch has the length {0}")]
    Length(i32),
    #[error("the batch has the format version {0}")]
    Magic(i8),
    #[error("the batch is longer than what the broker gave of it")]
    CutOff,
    #[error("the checksum of the batch is wrong")]
    Checksum,
    #[error("the batch is compressed by a codec that does not exist")]
    Codec,
    #[error("the batch cannot be decompressed")]
    Compressed(#[source] io::Error),
    #[error("record {0} of the batch is malformed")]
    Record(i32),
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransactionEnd {
    Aborted,
    Committed,
}

// === impl RecordBatches ===

impl RecordBatches {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    /// Whether there is nothing, not even the beginning of a batch.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Where the batch begins that is next, if its first bytes are there.
    fn next_base_offset(&self) -> Option<i64> {
        take(&self.bytes, 0).map(i64::from_be_bytes)
    }
}

impl Iterator for RecordBatches {
    type Item = Result<RecordBatch, CorruptBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let base_offset = self.next_base_offset()?;
        let length = i32::from_be_bytes(take(&self.bytes, 8)?);
        let bytes = usize::try_from(length)
            .ok()
            .filter(|length| *length >= HEADER_BYTES - PREFIX_BYTES);
        let Some(end) = bytes.and_then(|length| length.checked_add(PREFIX_BYTES)) else {
            self.bytes.clear();
            return Some(Err(CorruptBatch {
                base_offset,
                next_offset: base_offset.saturating_add(1),
                cause: Malformed::Length(length),
            }));
        };
        if end > self.bytes.len() {
            return None;
        }
        let batch = self.bytes.split_to(end);
        Some(RecordBatch::read(batch, base_offset).map_err(|(cause, next_offset)| {
            CorruptBatch {
                base_offset,
                // The base of the following batch is the best answer: of this one, the end may be damaged, too.
                next_offset: self
                    .next_base_offset()
                    .unwrap_or(next_offset)
                    .max(base_offset.saturating_add(1)),
                cause,
            }
        }))
    }
}

// === impl RecordBatch ===

impl RecordBatch {
    /// Reads everything but the records. An error comes with the offset behind the batch, as far as it can be told.
    fn read(batch: Bytes, base_offset: i64) -> Result<Self, (Malformed, i64)> {
        let cut = || (Malformed::Length(0), base_offset.saturating_add(1));
        let last_offset_delta = i32::from_be_bytes(take(&batch, 23).ok_or_else(cut)?);
        let count = i32::from_be_bytes(take(&batch, 57).ok_or_else(cut)?);
        let next_offset = base_offset
            .saturating_add(i64::from(last_offset_delta.max(0)))
            .saturating_add(1);
        let magic = i8::from_be_bytes(take(&batch, 16).ok_or_else(cut)?);
        if magic != MAGIC {
            return Err((Malformed::Magic(magic), base_offset.saturating_add(1)));
        }
        let checksum = u32::from_be_bytes(take(&batch, 17).ok_or_else(cut)?);
        if checksum != crc32c::crc32c(batch.get(CHECKED_FROM..).unwrap_or_default()) {
            // Two fields that agree with each other and with the size are not the damaged ones.
            let plausible = count > 0
                && i64::from(last_offset_delta) + 1 == i64::from(count)
                && usize::try_from(count).is_ok_and(|count| count <= batch.len() / MIN_RECORD_BYTES);
            let next_offset = if plausible {
                next_offset
            } else {
                base_offset.saturating_add(1)
            };
            return Err((Malformed::Checksum, next_offset));
        }
        Ok(Self {
            base_offset,
            next_offset,
            first_offset: base_offset,
            attributes: i16::from_be_bytes(take(&batch, 21).ok_or_else(cut)?),
            base_timestamp_ms: i64::from_be_bytes(take(&batch, 27).ok_or_else(cut)?),
            max_timestamp_ms: i64::from_be_bytes(take(&batch, 35).ok_or_else(cut)?),
            producer_id: i64::from_be_bytes(take(&batch, 43).ok_or_else(cut)?),
            count,
            records: batch.slice(HEADER_BYTES..),
        })
    }

    /// Whether its records count only once their transaction is committed.
    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether it ends a transaction instead of holding records.
    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// A transactional batch for tests of what does not look at its records.
    #[cfg(test)]
    pub(crate) fn for_test(producer_id: i64, base_offset: i64, next_offset: i64, records: &[u8]) -> Self {
        Self {
            base_offset,
            next_offset,
            first_offset: base_offset,
            producer_id,
            attributes: TRANSACTIONAL,
            base_timestamp_ms: 0,
            max_timestamp_ms: 0,
            count: 0,
            records: Bytes::copy_from_slice(records),
        }
    }

    /// The memory that it takes, in bytes.
    pub(crate) fn size_bytes(&self) -> usize {
        size_of::<Self>() + self.records.len()
    }

    /// The same in memory of its own, not in that of the whole answer.
    pub(crate) fn to_owned_memory(&self) -> Self {
        Self {
            records: Bytes::copy_from_slice(&self.records),
            ..self.clone()
        }
    }

    /// The same without the records below `offset`.
    pub(crate) fn starting_at(self, offset: i64) -> Self {
        Self {
            first_offset: offset.max(self.base_offset),
            ..self
        }
    }

    /// How many records it claims to have.
    pub(crate) fn count(&self) -> i32 {
        self.count
    }

    /// How the transaction of its producer ended; `None` for a control batch of another kind.
    ///
    /// The key of its one record is a version and a type, two bytes each: 0 is an abort, 1 a commit.
    pub(crate) fn transaction_end(&self) -> Option<TransactionEnd> {
        let records = self.clone().decode().ok()?;
        let key = records.first()?.key()?;
        match i16::from_be_bytes(take(key, 2)?) {
            0 => Some(TransactionEnd::Aborted),
            1 => Some(TransactionEnd::Committed),
            _ => None,
        }
    }

    /// Its records.
    ///
    /// # Errors
    /// When it cannot be decompressed, or one of them is malformed.
    pub(crate) fn decode(self) -> Result<Vec<ConsumedRecord>, Malformed> {
        let compression = Compression::of_attributes(self.attributes).ok_or(Malformed::Codec)?;
        let decompressed = compression.decompress(self.records.clone(), MAX_DECOMPRESSED_BYTES);
        let bytes = decompressed.map_err(Malformed::Compressed)?;
        let mut rest = &*bytes;
        let plausible = usize::try_from(self.count)
            .unwrap_or(0)
            .min(bytes.len() / MIN_RECORD_BYTES);
        let mut records = Vec::with_capacity(plausible);
        for index in 0..self.count {
            let record = self.record(&bytes, &mut rest).ok_or(Malformed::Record(index))?;
            if record.offset() >= self.first_offset {
                records.push(record);
            }
        }
        Ok(records)
    }

    /// Takes a record off the front of `rest`, which is a part of `bytes`.
    #[inline]
    fn record(&self, bytes: &Bytes, rest: &mut &[u8]) -> Option<ConsumedRecord> {
        let length = usize::try_from(take_varint(rest)?).ok()?;
        let (mut record, after) = rest.split_at_checked(length)?;
        *rest = after;
        // Its attributes have no meaning yet.
        record = record.get(1..)?;
        let timestamp_delta = take_varint(&mut record)?;
        let offset_delta = take_varint(&mut record)?;
        let timestamp_ms = if self.attributes & LOG_APPEND_TIME == 0 {
            self.base_timestamp_ms.saturating_add(timestamp_delta)
        } else {
            self.max_timestamp_ms
        };
        let offset = self.base_offset.checked_add(offset_delta)?;
        ConsumedRecord::read(offset, timestamp_ms, bytes.slice_ref(record))
    }
}

/// The bytes at `start`, as many as the type has.
fn take<const N: usize>(bytes: &[u8], start: usize) -> Option<[u8; N]> {
    bytes.get(start..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests;
