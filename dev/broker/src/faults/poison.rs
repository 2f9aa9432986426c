//! Batches that are valid, and that clients choke on all the same.

use bytes::{BufMut, Bytes, BytesMut};

use crate::batch::HEADER_BYTES;

/// A batch that some clients cannot read. All but `UnreadableCodec` are what a broker may well hand out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Poison {
    /// Each record has a header whose value is null, which the format allows and rskafka does not.
    NullHeaderValue,
    /// Each record has a header whose key is not UTF-8, which no client should write, and no broker checks.
    HeaderKeyNotUtf8,
    /// The attributes name this codec (3 lz4, 4 zstd; 5 to 7 do not exist), and what follows is no data of that codec.
    UnreadableCodec(u8),
    /// A commit or abort marker. It holds one record, whatever number is asked for, and ends the open transaction of its
    /// producer.
    Marker {
        /// Whose transaction.
        producer_id: i64,
        /// A commit; an abort otherwise.
        commit: bool,
    },
    /// Plain records in a transaction that stays open and holds back the last stable offset, until a `Marker` of the same
    /// producer ends it.
    OpenTransaction {
        /// Whose transaction.
        producer_id: i64,
    },
}

const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
/// 2026-01-01, in ms since the epoch: a time like any other.
const TIMESTAMP: i64 = 1_767_225_600_000;

impl Poison {
    /// The batch, with its checksum and at offset 0.
    ///
    /// `records` is at least 1 and at most 2^31.
    pub fn batch(self, records: usize) -> Bytes {
        let count = if matches!(self, Poison::Marker { .. }) {
            1
        } else {
            records.max(1)
        };
        let (attributes, producer_id) = match self {
            Poison::NullHeaderValue | Poison::HeaderKeyNotUtf8 => (0, -1),
            Poison::UnreadableCodec(codec) => (i16::from(codec & 0x07), -1),
            Poison::Marker { producer_id, .. } => (TRANSACTIONAL | CONTROL, producer_id),
            Poison::OpenTransaction { producer_id } => (TRANSACTIONAL, producer_id),
        };
        let mut body = BytesMut::new();
        match self {
            Poison::UnreadableCodec(_) => body.put_slice(b"not what the codec writes"),
            _ => (0_i64..)
                .take(count)
                .for_each(|offset| self.put_record(&mut body, offset)),
        }
        seal(attributes, producer_id, i32::try_from(count).unwrap_or(i32::MAX), &body)
    }

    fn put_record(self, body: &mut BytesMut, offset: i64) {
        let mut record = BytesMut::new();
        record.put_i8(0);
        put_varint(&mut record, 0);
        put_varint(&mut record, offset);
        if let Poison::Marker { commit, .. } = self {
            // EndTransactionMarker: version and type in the key; version and coordinator epoch in the value.
            put_blob(&mut record, Some(&[0, 0, 0, u8::from(commit)]));
            put_blob(&mut record, Some(&[0, 0, 0, 0, 0, 0]));
        } else {
            put_blob(&mut record, Some(b"key"));
            put_blob(&mut record, Some(b"poison"));
        }
        match self {
            Poison::NullHeaderValue => put_header(&mut record, b"header", None),
            Poison::HeaderKeyNotUtf8 => put_header(&mut record, b"\xff\xfe", Some(b"value")),
            _ => put_varint(&mut record, 0),
        }
        put_blob(body, Some(&record));
    }
}

/// Puts the batch header before the records.
fn seal(attributes: i16, producer_id: i64, count: i32, records: &[u8]) -> Bytes {
    let mut covered = BytesMut::new();
    covered.put_i16(attributes);
    covered.put_i32(count - 1);
    covered.put_i64(TIMESTAMP);
    covered.put_i64(TIMESTAMP);
    covered.put_i64(producer_id);
    // A transactional producer has an epoch; nobody else does, and nobody here has a sequence.
    covered.put_i16(if producer_id < 0 { -1 } else { 0 });
    covered.put_i32(-1);
    covered.put_i32(count);
    covered.put_slice(records);
    let mut batch = BytesMut::with_capacity(HEADER_BYTES + records.len());
    batch.put_i64(0);
    // Epoch, magic and checksum come before what is covered.
    batch.put_i32(i32::try_from(4 + 1 + 4 + covered.len()).unwrap_or(i32::MAX));
    batch.put_i32(-1);
    batch.put_i8(2);
    batch.put_u32(crc32c::crc32c(&covered));
    batch.put_slice(&covered);
    batch.freeze()
}

fn put_header(record: &mut BytesMut, key: &[u8], value: Option<&[u8]>) {
    put_varint(record, 1);
    put_blob(record, Some(key));
    put_blob(record, value);
}

/// Bytes with their length, or null.
fn put_blob(into: &mut BytesMut, bytes: Option<&[u8]>) {
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
