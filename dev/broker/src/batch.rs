//! A record batch (magic 2, KIP-98). The broker validates it, sets base offset and leader epoch, and keeps the other bytes.
//!
//! The byte ranges below are those of <https://kafka.apache.org/documentation/#recordbatch>. Base offset and leader epoch
//! come before the bytes under the checksum, so the broker does not recompute it.

pub(crate) mod records;

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ResponseError;

const BASE_OFFSET: Range<usize> = 0..8;
const LENGTH: Range<usize> = 8..12;
const LEADER_EPOCH: Range<usize> = 12..16;
const MAGIC: Range<usize> = 16..17;
const CRC: Range<usize> = 17..21;
/// The checksum covers the bytes from here to the end.
const ATTRIBUTES: Range<usize> = 21..23;
const LAST_OFFSET_DELTA: Range<usize> = 23..27;
const BASE_TIMESTAMP: Range<usize> = 27..35;
const MAX_TIMESTAMP: Range<usize> = 35..43;
const PRODUCER_ID: Range<usize> = 43..51;
const PRODUCER_EPOCH: Range<usize> = 51..53;
const BASE_SEQUENCE: Range<usize> = 53..57;
const RECORD_COUNT: Range<usize> = 57..61;

/// Length of the batch header.
pub(crate) const HEADER_BYTES: usize = 61;
/// Bytes that the length field does not count.
const OVERHEAD_BYTES: usize = LENGTH.end;

const CODEC_MASK: i16 = 0x07;
const CODEC_ZSTD: i16 = 4;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// The header fields that the broker uses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    /// Codec, transactional bit and control bit.
    pub(crate) attributes: i16,
    /// Offset of the last record, relative to the base offset.
    pub(crate) last_offset_delta: i32,
    /// Timestamp of the first record, in ms since the epoch.
    pub(crate) base_timestamp: i64,
    /// The largest timestamp, in ms since the epoch, as the producer set it.
    pub(crate) max_timestamp: i64,
    /// -1 if the producer is not idempotent.
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    /// Sequence of the first record; -1 if the producer is not idempotent.
    pub(crate) base_sequence: i32,
}

/// A batch before its append. It owns a copy of the bytes, because a slice would keep the whole request in memory.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) header: Header,
    bytes: BytesMut,
}

// === impl Header ===

impl Header {
    /// Decodes the header at the start of `bytes`. None if the bytes are too short.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        Some(Header {
            attributes: i16::from_be_bytes(field(bytes, ATTRIBUTES)?),
            last_offset_delta: i32::from_be_bytes(field(bytes, LAST_OFFSET_DELTA)?),
            base_timestamp: i64::from_be_bytes(field(bytes, BASE_TIMESTAMP)?),
            max_timestamp: i64::from_be_bytes(field(bytes, MAX_TIMESTAMP)?),
            producer_id: i64::from_be_bytes(field(bytes, PRODUCER_ID)?),
            producer_epoch: i16::from_be_bytes(field(bytes, PRODUCER_EPOCH)?),
            base_sequence: i32::from_be_bytes(field(bytes, BASE_SEQUENCE)?),
        })
    }

    /// Whether the records are compressed.
    pub(crate) fn is_compressed(&self) -> bool {
        self.attributes & CODEC_MASK != 0
    }

    /// Whether the batch belongs to a transaction.
    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether the batch is a transaction marker.
    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }
}

// === impl Batch ===

impl Batch {
    /// Validates the records of a produce request: exactly one batch of magic 2, within the size limit, with a correct
    /// checksum, not transactional and no marker.
    ///
    /// # Errors
    /// Those of Kafka's `LogValidator` and `ProduceRequest.validateRecords`.
    pub(crate) fn validate(
        records: Option<&Bytes>,
        produce_version: i16,
        max_bytes: usize,
    ) -> Result<Self, ResponseError> {
        let records = records.ok_or(ResponseError::InvalidRecord)?;
        // Kafka drops a truncated batch. At least one batch must be complete.
        let end = batch_end(records)?.ok_or(ResponseError::InvalidRecord)?;
        let (bytes, rest) = records.split_at_checked(end).ok_or(ResponseError::InvalidRecord)?;
        match field(bytes, MAGIC).map(i8::from_be_bytes) {
            Some(2) => {}
            Some(0 | 1) => return Err(ResponseError::InvalidRecord),
            _ => return Err(ResponseError::CorruptMessage),
        }
        if !matches!(batch_end(rest), Ok(None)) {
            return Err(ResponseError::InvalidRecord);
        }
        if bytes.len() > max_bytes {
            return Err(ResponseError::MessageTooLarge);
        }
        let checksummed = bytes.get(ATTRIBUTES.start..).unwrap_or_default();
        if field(bytes, CRC).map(u32::from_be_bytes) != Some(crc32c::crc32c(checksummed)) {
            return Err(ResponseError::CorruptMessage);
        }
        let header = Header::read(bytes).ok_or(ResponseError::CorruptMessage)?;
        let count = field(bytes, RECORD_COUNT).map(i32::from_be_bytes);
        if header.last_offset_delta < 0 || count != header.last_offset_delta.checked_add(1) || header.is_control() {
            return Err(ResponseError::InvalidRecord);
        }
        if header.producer_id >= 0 && header.base_sequence < 0 {
            return Err(ResponseError::InvalidRecord);
        }
        if header.is_transactional() {
            // There is no transaction coordinator, so the transaction was never begun.
            return Err(ResponseError::TransactionalIdAuthorizationFailed);
        }
        if !header.is_compressed() && count != records::count(bytes.get(HEADER_BYTES..).unwrap_or_default()) {
            return Err(ResponseError::InvalidRecord);
        }
        match header.attributes & CODEC_MASK {
            // KIP-110: clients of older versions cannot decode zstd.
            CODEC_ZSTD if produce_version < 7 => Err(ResponseError::UnsupportedCompressionType),
            0..=CODEC_ZSTD => Ok(Batch {
                header,
                bytes: BytesMut::from(bytes),
            }),
            _ => Err(ResponseError::InvalidRecord),
        }
    }

    /// A batch without validation, for faults. None unless the header is complete and counts a record.
    pub(crate) fn unchecked(bytes: &[u8]) -> Option<Self> {
        let header = Header::read(bytes).filter(|header| header.last_offset_delta >= 0)?;
        (bytes.len() >= HEADER_BYTES).then(|| Batch {
            header,
            bytes: BytesMut::from(bytes),
        })
    }

    /// The records, compressed or not.
    pub(crate) fn records(&self) -> &[u8] {
        self.bytes.get(HEADER_BYTES..).unwrap_or_default()
    }

    /// Sets base offset and leader epoch.
    pub(crate) fn assign_offset(mut self, base_offset: i64, leader_epoch: i32) -> Bytes {
        set(&mut self.bytes, BASE_OFFSET, &base_offset.to_be_bytes());
        set(&mut self.bytes, LEADER_EPOCH, &leader_epoch.to_be_bytes());
        self.bytes.freeze()
    }
}

/// The end of the batch at the start of `bytes`. None if the batch is truncated.
fn batch_end(bytes: &[u8]) -> Result<Option<usize>, ResponseError> {
    let Some(length) = field(bytes, LENGTH).map(i32::from_be_bytes) else {
        return Ok(None);
    };
    let end = usize::try_from(length)
        .ok()
        .and_then(|length| length.checked_add(OVERHEAD_BYTES));
    let end = end
        .filter(|end| *end >= HEADER_BYTES)
        .ok_or(ResponseError::CorruptMessage)?;
    Ok((end <= bytes.len()).then_some(end))
}

fn field<const N: usize>(bytes: &[u8], at: Range<usize>) -> Option<[u8; N]> {
    bytes.get(at)?.try_into().ok()
}

/// Overwrites a header field. The header was decoded before, so the range exists.
fn set(bytes: &mut BytesMut, at: Range<usize>, value: &[u8]) {
    if let Some(target) = bytes.get_mut(at) {
        target.copy_from_slice(value);
    }
}

#[cfg(test)]
pub(crate) mod tests;
