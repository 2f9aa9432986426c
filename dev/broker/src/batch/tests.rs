use bytes::BufMut;

use super::*;

/// An encoded batch with one record for each timestamp.
pub(crate) fn encode(timestamps: &[i64], value: &[u8], attributes: i16) -> Bytes {
    let base = timestamps[0];
    let varint = |bytes: &mut BytesMut, value: i64| {
        let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
        while zigzag >= 0x80 {
            bytes.put_u8(u8::try_from(zigzag & 0x7f).unwrap() | 0x80);
            zigzag >>= 7;
        }
        bytes.put_u8(u8::try_from(zigzag).unwrap());
    };
    let mut records = BytesMut::new();
    for (timestamp, offset) in timestamps.iter().zip(0..) {
        let mut record = BytesMut::new();
        record.put_i8(0);
        varint(&mut record, timestamp - base);
        varint(&mut record, offset);
        varint(&mut record, -1);
        varint(&mut record, i64::try_from(value.len()).unwrap());
        record.put_slice(value);
        varint(&mut record, 0);
        varint(&mut records, i64::try_from(record.len()).unwrap());
        records.put_slice(&record);
    }
    let count = i32::try_from(timestamps.len()).unwrap();
    let mut bytes = BytesMut::new();
    bytes.put_i64(0);
    bytes.put_i32(i32::try_from(HEADER_BYTES - OVERHEAD_BYTES + records.len()).unwrap());
    bytes.put_i32(-1);
    bytes.put_i8(2);
    bytes.put_u32(0);
    bytes.put_i16(attributes);
    bytes.put_i32(count - 1);
    bytes.put_i64(base);
    bytes.put_i64(*timestamps.iter().max().unwrap());
    bytes.put_i64(-1);
    bytes.put_i16(-1);
    bytes.put_i32(-1);
    bytes.put_i32(count);
    bytes.put_slice(&records);
    with_checksum(bytes)
}

fn with_checksum(mut bytes: BytesMut) -> Bytes {
    let crc = crc32c::crc32c(&bytes[ATTRIBUTES.start..]);
    bytes[CRC].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

/// A valid batch of this many records.
pub(crate) fn batch(records: usize) -> Batch {
    validate(&encode(&vec![1000; records], b"value", 0)).unwrap()
}

pub(crate) fn validate(bytes: &Bytes) -> Result<Batch, ResponseError> {
    Batch::validate(Some(bytes), 7, 1 << 20)
}

fn with_bytes(at: usize, value: &[u8]) -> Bytes {
    let mut bytes = BytesMut::from(encode(&[1000, 2000], b"value", 0));
    bytes[at..at + value.len()].copy_from_slice(value);
    with_checksum(bytes)
}

#[test]
fn assign_offset_keeps_the_checksum() {
    let batch = validate(&encode(&[1000, 3000, 2000], b"value", 0)).unwrap();
    assert_eq!(batch.header.last_offset_delta, 2);
    assert_eq!((batch.header.base_timestamp, batch.header.max_timestamp), (1000, 3000));
    assert_eq!(batch.header.producer_id, -1);
    let timestamps: Vec<_> = records::deltas(batch.records()).map(|delta| delta.timestamp).collect();
    assert_eq!(timestamps, [0, 2000, 1000]);
    let bytes = batch.assign_offset(77, 5);
    assert_eq!(bytes[BASE_OFFSET], 77_i64.to_be_bytes());
    assert_eq!(bytes[LEADER_EPOCH], 5_i32.to_be_bytes());
    assert_eq!(bytes[CRC], crc32c::crc32c(&bytes[ATTRIBUTES.start..]).to_be_bytes());
}

#[test]
fn corrupt_batch_fails_the_checksum() {
    let good = encode(&[1000], b"value", 0);
    for at in ATTRIBUTES.start..good.len() {
        let mut bytes = BytesMut::from(good.clone());
        bytes[at] ^= 1;
        assert_eq!(
            validate(&bytes.freeze()).unwrap_err(),
            ResponseError::CorruptMessage,
            "byte {at}"
        );
    }
    for length in 0..good.len() {
        let truncated = validate(&good.slice(..length));
        assert_eq!(truncated.unwrap_err(), ResponseError::InvalidRecord, "{length} bytes");
    }
}

#[test]
fn invalid_batches_get_the_errors_of_kafka() {
    let two = [encode(&[1], b"a", 0), encode(&[1], b"b", 0)].concat();
    let mut more = BytesMut::from(with_bytes(RECORD_COUNT.start, &[0, 0, 0, 9]));
    more[LAST_OFFSET_DELTA].copy_from_slice(&[0, 0, 0, 8]);
    let more = with_checksum(more);
    let cases = [
        ("no bytes", Bytes::new(), ResponseError::InvalidRecord),
        ("two batches", two.into(), ResponseError::InvalidRecord),
        ("magic 3", with_bytes(MAGIC.start, &[3]), ResponseError::CorruptMessage),
        (
            "an idempotent batch without a sequence",
            with_bytes(PRODUCER_ID.start, &[0; 8]),
            ResponseError::InvalidRecord,
        ),
        ("a record count above the records", more, ResponseError::InvalidRecord),
        ("magic 1", with_bytes(MAGIC.start, &[1]), ResponseError::InvalidRecord),
        (
            "a length below the header",
            with_bytes(LENGTH.start, &[0, 0, 0, 9]),
            ResponseError::CorruptMessage,
        ),
        (
            "a negative length",
            with_bytes(LENGTH.start, &[0xff; 4]),
            ResponseError::CorruptMessage,
        ),
        (
            "a length past the end",
            with_bytes(LENGTH.start, &[0x7f, 0xff, 0xff, 0xff]),
            ResponseError::InvalidRecord,
        ),
        (
            "a record count below the last offset",
            with_bytes(RECORD_COUNT.start, &[0, 0, 0, 1]),
            ResponseError::InvalidRecord,
        ),
        (
            "no records",
            with_bytes(LAST_OFFSET_DELTA.start, &[0xff; 4]),
            ResponseError::InvalidRecord,
        ),
        (
            "a control batch",
            encode(&[1], b"a", CONTROL),
            ResponseError::InvalidRecord,
        ),
        (
            "a transactional batch",
            encode(&[1], b"a", TRANSACTIONAL),
            ResponseError::TransactionalIdAuthorizationFailed,
        ),
        ("codec 5", encode(&[1], b"a", 5), ResponseError::InvalidRecord),
        (
            "a batch above max_batch_bytes",
            encode(&[1], &[0; 1 << 20], 0),
            ResponseError::MessageTooLarge,
        ),
    ];
    for (what, bytes, error) in cases {
        assert_eq!(validate(&bytes).unwrap_err(), error, "{what}");
    }
    assert_eq!(
        Batch::validate(None, 7, 1 << 20).unwrap_err(),
        ResponseError::InvalidRecord
    );
}

#[test]
fn zstd_needs_produce_v7() {
    for codec in 0..=4 {
        assert!(validate(&encode(&[1], b"a", codec)).is_ok(), "codec {codec}");
    }
    let zstd = encode(&[1], b"a", CODEC_ZSTD);
    let error = Batch::validate(Some(&zstd), 6, 1 << 20).unwrap_err();
    assert_eq!(error, ResponseError::UnsupportedCompressionType);
}

#[test]
fn truncated_batch_after_a_complete_one_is_dropped() {
    let good = encode(&[1], b"a", 0);
    for rest in [&b"x"[..], &good[..60]] {
        let batch = validate(&[&good[..], rest].concat().into()).unwrap();
        assert_eq!(batch.assign_offset(0, -1), good);
    }
}
