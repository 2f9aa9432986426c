//! Poison batches: valid, or accepted by brokers, but clients fail to decode them.

use bytes::{BufMut, Bytes, BytesMut};

use crate::batch::HEADER_BYTES;

/// A batch that some clients cannot decode. A real broker can return all of them except `UnreadableCodec`; `WrongChecksum`
/// only after its disk has damaged it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Poison {
    /// Each record has a header with a null value: the record format allows it, rskafka does not.
    NullHeaderValue,
    /// Each record has a header with a key that is not UTF-8: invalid, but brokers do not check it.
    HeaderKeyNotUtf8,
    /// The attributes name this codec (3 lz4, 4 zstd; 5 to 7 do not exist), but the records are not compressed with it.
    UnreadableCodec(u8),
    /// The checksum is not that of the batch, which is valid otherwise.
    WrongChecksum,
    /// A commit or abort marker: always one record. It ends the open transaction of its producer.
    Marker {
        /// The producer of the transaction.
        producer_id: i64,
        /// Commit or abort.
        commit: bool,
    },
    /// Records of an open transaction. They hold back the last stable offset until a `Marker` of the same producer.
    OpenTransaction {
        /// The producer of the transaction.
        producer_id: i64,
    },
}

const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
/// 2026-01-01, in ms since the epoch.
const TIMESTAMP: i64 = 1_767_225_600_000;

impl Poison {
    /// The encoded batch, with its checksum, at base offset 0.
    ///
    /// `records` is clamped to 1..=2^31.
    pub fn batch(self, records: usize) -> Bytes {
        let count = if matches!(self, Poison::Marker { .. }) {
            1
        } else {
            records.max(1)
        };
        let (attributes, producer_id) = match self {
            Poison::NullHeaderValue | Poison::HeaderKeyNotUtf8 | Poison::WrongChecksum => (0, -1),
            Poison::UnreadableCodec(codec) => (i16::from(codec & 0x07), -1),
            Poison::Marker { producer_id, .. } => (TRANSACTIONAL | CONTROL, producer_id),
            Poison::OpenTransaction { producer_id } => (TRANSACTIONAL, producer_id),
        };
        let mut body = BytesMut::new();
        match self {
            Poison::UnreadableCodec(_) => body.put_slice(b"not compressed data"),
            _ => (0_i64..)
                .take(count)
                .for_each(|offset| self.put_record(&mut body, offset)),
        }
        let damage = u32::from(self == Poison::WrongChecksum);
        encode_batch(
            attributes,
            producer_id,
            i32::try_from(count).unwrap_or(i32::MAX),
            &body,
            damage,
        )
    }

    fn put_record(self, body: &mut BytesMut, offset: i64) {
        let mut record = BytesMut::new();
        record.put_i8(0);
        put_varint(&mut record, 0);
        put_varint(&mut record, offset);
        if let Poison::Marker { commit, .. } = self {
            // EndTxnMarker: version and type in the key; version and coordinator epoch in the value.
            put_bytes(&mut record, Some(&[0, 0, 0, u8::from(commit)]));
            put_bytes(&mut record, Some(&[0, 0, 0, 0, 0, 0]));
        } else {
            put_bytes(&mut record, Some(b"key"));
            put_bytes(&mut record, Some(b"poison"));
        }
        match self {
            Poison::NullHeaderValue => put_header(&mut record, b"header", None),
            Poison::HeaderKeyNotUtf8 => put_header(&mut record, b"\xff\xfe", Some(b"value")),
            _ => put_varint(&mut record, 0),
        }
        put_bytes(body, Some(&record));
    }
}

/// Adds the batch header. The bits of `damage` are wrong in its checksum.
fn encode_batch(attributes: i16, producer_id: i64, count: i32, records: &[u8], damage: u32) -> Bytes {
    let mut checksummed = BytesMut::new();
    checksummed.put_i16(attributes);
    checksummed.put_i32(count - 1);
    checksummed.put_i64(TIMESTAMP);
    checksummed.put_i64(TIMESTAMP);
    checksummed.put_i64(producer_id);
    // Only a transactional producer has an epoch. No batch has a sequence.
    checksummed.put_i16(if producer_id < 0 { -1 } else { 0 });
    checksummed.put_i32(-1);
    checksummed.put_i32(count);
    checksummed.put_slice(records);
    let mut batch = BytesMut::with_capacity(HEADER_BYTES + records.len());
    batch.put_i64(0);
    // The length counts epoch, magic and checksum, and the bytes under the checksum.
    batch.put_i32(i32::try_from(4 + 1 + 4 + checksummed.len()).unwrap_or(i32::MAX));
    batch.put_i32(-1);
    batch.put_i8(2);
    batch.put_u32(crc32c::crc32c(&checksummed) ^ damage);
    batch.put_slice(&checksummed);
    batch.freeze()
}

fn put_header(record: &mut BytesMut, key: &[u8], value: Option<&[u8]>) {
    put_varint(record, 1);
    put_bytes(record, Some(key));
    put_bytes(record, value);
}

/// Length and bytes; null has length -1.
fn put_bytes(into: &mut BytesMut, bytes: Option<&[u8]>) {
    put_varint(
        into,
        bytes.map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX)),
    );
    into.put_slice(bytes.unwrap_or_default());
}

fn put_varint(into: &mut BytesMut, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while zigzag >= 0x80 {
        into.put_u8(zigzag.to_le_bytes()[0] | 0x80);
        zigzag >>= 7;
    }
    into.put_u8(zigzag.to_le_bytes()[0]);
}
