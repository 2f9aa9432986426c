//! Writes a record batch: each byte once, uncompressed.

use shared::{
    record_headers::Headers,
    varint::{bytes_len, put_bytes, put_varint, varint_len},
};

use super::{CHECKED_FROM, HEADER_BYTES, MAGIC, PREFIX_BYTES};

/// A record to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordToWrite<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Headers<'a>,
    pub(crate) timestamp_ms: i64,
}

/// The bytes of one batch of these records, without a producer id.
pub(crate) fn encode<'a>(records: impl ExactSizeIterator<Item = RecordToWrite<'a>>, capacity: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + capacity);
    out.resize(HEADER_BYTES, 0);
    let count = records.len();
    let (mut base_timestamp, mut max_timestamp) = (0, 0);
    for (index, record) in records.enumerate() {
        if index == 0 {
            (base_timestamp, max_timestamp) = (record.timestamp_ms, record.timestamp_ms);
        }
        max_timestamp = max_timestamp.max(record.timestamp_ms);
        put_record(
            &mut out,
            record,
            count_i64(index),
            record.timestamp_ms.wrapping_sub(base_timestamp),
        );
    }
    put_header(&mut out, count, base_timestamp, max_timestamp);
    out
}

fn put_record(out: &mut Vec<u8>, record: RecordToWrite<'_>, offset_delta: i64, timestamp_delta: i64) {
    let headers = record.headers.encoded();
    let header_count = count_i64(record.headers.len());
    let length = 1
        + varint_len(timestamp_delta)
        + varint_len(offset_delta)
        + bytes_len(record.key)
        + bytes_len(record.value)
        + varint_len(header_count)
        + headers.len();
    put_varint(out, count_i64(length));
    // Attributes, which have no meaning yet.
    out.push(0);
    put_varint(out, timestamp_delta);
    put_varint(out, offset_delta);
    put_bytes(out, record.key);
    put_bytes(out, record.value);
    put_varint(out, header_count);
    out.extend_from_slice(headers);
}

/// Fills in what stands before the records. The broker sets offset and leader epoch.
fn put_header(batch: &mut [u8], count: usize, base_timestamp: i64, max_timestamp: i64) {
    let length = batch.len() - PREFIX_BYTES;
    // A batch is bounded far below the 2 GiB that its fields can say.
    let int = |value: usize| i32::try_from(value).unwrap_or(i32::MAX).to_be_bytes();
    put_at(batch, 8, &int(length));
    put_at(batch, 12, &(-1_i32).to_be_bytes());
    put_at(batch, 16, &MAGIC.to_be_bytes());
    put_at(batch, 23, &int(count.saturating_sub(1)));
    put_at(batch, 27, &base_timestamp.to_be_bytes());
    put_at(batch, 35, &max_timestamp.to_be_bytes());
    // Producer id, epoch and sequence: none.
    put_at(batch, 43, &[0xff; 14]);
    put_at(batch, 57, &int(count));
    let checksum = crc32c::crc32c(batch.get(CHECKED_FROM..).unwrap_or_default());
    put_at(batch, 17, &checksum.to_be_bytes());
}

fn put_at(batch: &mut [u8], start: usize, bytes: &[u8]) {
    if let Some(place) = batch.get_mut(start..start + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn count_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
