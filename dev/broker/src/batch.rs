//! A record batch (magic 2, KIP-98) as it lies on the wire: checked, numbered, and otherwise left as it came.
//!
//! Offsets below are those of the message format:
//! <https://kafka.apache.org/documentation/#recordbatch>. The base offset and the leader epoch lie before the bytes under
//! the checksum, so the broker sets them without touching it.

pub(crate) mod records;

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ResponseError;

const BASE_OFFSET: Range<usize> = 0..8;
const LENGTH: Range<usize> = 8..12;
const LEADER_EPOCH: Range<usize> = 12..16;
const MAGIC: Range<usize> = 16..17;
const CRC: Range<usize> = 17..21;
/// What the checksum covers: from here to the end.
const ATTRIBUTES: Range<usize> = 21..23;
const LAST_OFFSET_DELTA: Range<usize> = 23..27;
const BASE_TIMESTAMP: Range<usize> = 27..35;
const MAX_TIMESTAMP: Range<usize> = 35..43;
const PRODUCER_ID: Range<usize> = 43..51;
const PRODUCER_EPOCH: Range<usize> = 51..53;
const BASE_SEQUENCE: Range<usize> = 53..57;
const RECORD_COUNT: Range<usize> = 57..61;

/// Length of everything before the records.
pub(crate) const HEADER_BYTES: usize = 61;
/// The bytes before those counted by the length field.
const OVERHEAD_BYTES: usize = LENGTH.end;

const CODEC_MASK: i16 = 0x07;
const CODEC_ZSTD: i16 = 4;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// The header fields the broker acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Compression, transaction and control bits.
    pub(crate) attributes: i16,
    /// Offset of the last record, counted from the first.
    pub(crate) last_offset_delta: i32,
    /// Timestamp of the first record, in ms since the epoch.
    pub(crate) base_timestamp: i64,
    /// The largest timestamp in it, in ms since the epoch, as the producer says.
    pub(crate) max_timestamp: i64,
    /// Who wrote it; -1 for a producer without idempotence.
    pub(crate) producer_id: i64,
    /// Which incarnation of that producer.
    pub(crate) producer_epoch: i16,
    /// The producer's number of the first record in this partition; -1 without idempotence.
    pub(crate) base_sequence: i32,
}

impl Header {
    /// The header at the start of `bytes`; none if it is cut off.
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

    /// Whether the records are packed by some codec.
    pub(crate) fn is_compressed(&self) -> bool {
        self.attributes & CODEC_MASK != 0
    }

    /// Whether it belongs to a transaction.
    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether it holds a transaction marker instead of records.
    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }
}

/// A batch not yet in a log: its own copy of the bytes, because the frame it came in holds more than what is kept.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Its header, read once.
    pub(crate) header: Header,
    bytes: BytesMut,
}

impl Batch {
    /// Checks what a producer sent: exactly one batch of magic 2, not too large, undamaged, and of the plain kind.
    ///
    /// # Errors
    /// As Kafka's `LogValidator` and `ProduceRequest.validateRecords` answer.
    pub(crate) fn check(
        records: Option<&Bytes>,
        produce_version: i16,
        max_bytes: usize,
    ) -> Result<Self, ResponseError> {
        let records = records.ok_or(ResponseError::InvalidRecord)?;
        // What is cut off is no batch (Kafka drops it too), and one there must be.
        let end = end(records)?.ok_or(ResponseError::InvalidRecord)?;
        let (bytes, rest) = records.split_at_checked(end).ok_or(ResponseError::InvalidRecord)?;
        match field(bytes, MAGIC).map(i8::from_be_bytes) {
            Some(2) => {}
            Some(0 | 1) => return Err(ResponseError::InvalidRecord),
            _ => return Err(ResponseError::CorruptMessage),
        }
        if !matches!(self::end(rest), Ok(None)) {
            return Err(ResponseError::InvalidRecord);
        }
        if bytes.len() > max_bytes {
            return Err(ResponseError::MessageTooLarge);
        }
        let covered = bytes.get(ATTRIBUTES.start..).unwrap_or_default();
        if field(bytes, CRC).map(u32::from_be_bytes) != Some(crc32c::crc32c(covered)) {
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
            // Nobody can have begun one: there is no transaction coordinator here.
            return Err(ResponseError::TransactionalIdAuthorizationFailed);
        }
        if !header.is_compressed() && count != records::count(bytes.get(HEADER_BYTES..).unwrap_or_default()) {
            return Err(ResponseError::InvalidRecord);
        }
        match header.attributes & CODEC_MASK {
            // KIP-110: who speaks an older version could not read it back.
            CODEC_ZSTD if produce_version < 7 => Err(ResponseError::UnsupportedCompressionType),
            0..=CODEC_ZSTD => Ok(Batch {
                header,
                bytes: BytesMut::from(bytes),
            }),
            _ => Err(ResponseError::InvalidRecord),
        }
    }

    /// Takes any bytes with a whole header for a batch, for what no producer could send.
    #[cfg(feature = "faults")]
    pub(crate) fn verbatim(bytes: &[u8]) -> Option<Self> {
        let header = Header::read(bytes).filter(|header| header.last_offset_delta >= 0)?;
        (bytes.len() >= HEADER_BYTES).then(|| Batch {
            header,
            bytes: BytesMut::from(bytes),
        })
    }

    /// The records, packed or not.
    pub(crate) fn records(&self) -> &[u8] {
        self.bytes.get(HEADER_BYTES..).unwrap_or_default()
    }

    /// Gives it its place in the log.
    pub(crate) fn number(mut self, base_offset: i64, leader_epoch: i32) -> Bytes {
        set(&mut self.bytes, BASE_OFFSET, &base_offset.to_be_bytes());
        set(&mut self.bytes, LEADER_EPOCH, &leader_epoch.to_be_bytes());
        self.bytes.freeze()
    }
}

/// Where the batch at the start of `bytes` ends; none if it is cut off.
fn end(bytes: &[u8]) -> Result<Option<usize>, ResponseError> {
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

/// Writes into bytes that were read before, so the range is there.
fn set(bytes: &mut BytesMut, at: Range<usize>, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at) {
        place.copy_from_slice(value);
    }
}

#[cfg(test)]
pub(crate) mod tests;
