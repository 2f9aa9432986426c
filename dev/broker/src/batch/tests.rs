use bytes::BufMut;

use super::*;

/// A batch as a producer makes it: one record for each timestamp, with this value, and the attributes given.
pub(crate) fn produced(timestamps: &[i64], value: &[u8], attributes: i16) -> Bytes {
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
    reseal(bytes)
}

fn reseal(mut bytes: BytesMut) -> Bytes {
    let crc = crc32c::crc32c(&bytes[ATTRIBUTES.start..]);
    bytes[CRC].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

/// A checked batch of this many records.
pub(crate) fn batch(records: usize) -> Batch {
    check(&produced(&vec![1000; records], b"value", 0)).unwrap()
}

pub(crate) fn check(bytes: &Bytes) -> Result<Batch, ResponseError> {
    Batch::check(Some(bytes), 7, 1 << 20)
}

fn changed(at: usize, value: &[u8]) -> Bytes {
    let mut bytes = BytesMut::from(produced(&[1000, 2000], b"value", 0));
    bytes[at..at + value.len()].copy_from_slice(value);
    reseal(bytes)
}

#[test]
fn the_header_is_read_and_the_place_is_set() {
    let batch = check(&produced(&[1000, 3000, 2000], b"value", 0)).unwrap();
    assert_eq!(batch.header.last_offset_delta, 2);
    assert_eq!((batch.header.base_timestamp, batch.header.max_timestamp), (1000, 3000));
    assert_eq!(batch.header.producer_id, -1);
    let stamps: Vec<_> = records::stamps(batch.records())
        .map(|stamp| stamp.timestamp_delta)
        .collect();
    assert_eq!(stamps, [0, 2000, 1000]);
    let bytes = batch.number(77, 5);
    assert_eq!(bytes[BASE_OFFSET], 77_i64.to_be_bytes());
    assert_eq!(bytes[LEADER_EPOCH], 5_i32.to_be_bytes());
    assert_eq!(bytes[CRC], crc32c::crc32c(&bytes[ATTRIBUTES.start..]).to_be_bytes());
}

#[test]
fn damage_is_found() {
    let good = produced(&[1000], b"value", 0);
    for at in ATTRIBUTES.start..good.len() {
        let mut bytes = BytesMut::from(good.clone());
        bytes[at] ^= 1;
        assert_eq!(
            check(&bytes.freeze()).unwrap_err(),
            ResponseError::CorruptMessage,
            "byte {at}"
        );
    }
    for length in 0..good.len() {
        let cut = check(&good.slice(..length));
        assert_eq!(cut.unwrap_err(), ResponseError::InvalidRecord, "{length} bytes");
    }
}

#[test]
fn what_kafka_refuses_is_refused() {
    let two = [produced(&[1], b"a", 0), produced(&[1], b"b", 0)].concat();
    let mut more = BytesMut::from(changed(RECORD_COUNT.start, &[0, 0, 0, 9]));
    more[LAST_OFFSET_DELTA].copy_from_slice(&[0, 0, 0, 8]);
    let more = reseal(more);
    let cases = [
        ("nothing", Bytes::new(), ResponseError::InvalidRecord),
        ("two batches", two.into(), ResponseError::InvalidRecord),
        ("magic 3", changed(MAGIC.start, &[3]), ResponseError::CorruptMessage),
        (
            "an idempotent batch without a sequence",
            changed(PRODUCER_ID.start, &[0; 8]),
            ResponseError::InvalidRecord,
        ),
        ("more records than there are", more, ResponseError::InvalidRecord),
        ("magic 1", changed(MAGIC.start, &[1]), ResponseError::InvalidRecord),
        (
            "a length below the header",
            changed(LENGTH.start, &[0, 0, 0, 9]),
            ResponseError::CorruptMessage,
        ),
        (
            "a negative length",
            changed(LENGTH.start, &[0xff; 4]),
            ResponseError::CorruptMessage,
        ),
        (
            "a length past the end",
            changed(LENGTH.start, &[0x7f, 0xff, 0xff, 0xff]),
            ResponseError::InvalidRecord,
        ),
        (
            "fewer records than offsets",
            changed(RECORD_COUNT.start, &[0, 0, 0, 1]),
            ResponseError::InvalidRecord,
        ),
        (
            "no records",
            changed(LAST_OFFSET_DELTA.start, &[0xff; 4]),
            ResponseError::InvalidRecord,
        ),
        (
            "a control batch",
            produced(&[1], b"a", CONTROL),
            ResponseError::InvalidRecord,
        ),
        (
            "a transaction",
            produced(&[1], b"a", TRANSACTIONAL),
            ResponseError::TransactionalIdAuthorizationFailed,
        ),
        ("codec 5", produced(&[1], b"a", 5), ResponseError::InvalidRecord),
        (
            "too much",
            produced(&[1], &[0; 1 << 20], 0),
            ResponseError::MessageTooLarge,
        ),
    ];
    for (what, bytes, error) in cases {
        assert_eq!(check(&bytes).unwrap_err(), error, "{what}");
    }
    assert_eq!(
        Batch::check(None, 7, 1 << 20).unwrap_err(),
        ResponseError::InvalidRecord
    );
}

#[test]
fn codecs_pass_and_zstd_only_from_version_7() {
    for codec in 0..=4 {
        assert!(check(&produced(&[1], b"a", codec)).is_ok(), "codec {codec}");
    }
    let zstd = produced(&[1], b"a", CODEC_ZSTD);
    let error = Batch::check(Some(&zstd), 6, 1 << 20).unwrap_err();
    assert_eq!(error, ResponseError::UnsupportedCompressionType);
}

#[test]
fn a_cut_batch_behind_a_whole_one_is_dropped() {
    let good = produced(&[1], b"a", 0);
    for behind in [&b"x"[..], &good[..60]] {
        let batch = check(&[&good[..], behind].concat().into()).unwrap();
        assert_eq!(batch.number(0, -1), good);
    }
}
