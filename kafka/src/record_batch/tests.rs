use proptest::prelude::*;
use shared::record_headers::HeaderBuf;

use super::*;

/// A record with all its parts.
#[derive(Debug, Clone, PartialEq)]
struct Parts {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: HeaderBuf,
    timestamp_ms: i64,
}

fn parts(value: &str) -> Parts {
    Parts {
        key: None,
        value: Some(value.as_bytes().to_vec()),
        headers: HeaderBuf::new(),
        timestamp_ms: 1_000,
    }
}

fn batch_of(records: &[Parts]) -> Vec<u8> {
    let records = records.iter().map(|record| RecordToWrite {
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: record.headers.as_headers(),
        timestamp_ms: record.timestamp_ms,
    });
    encode(records, 0)
}

/// A batch of values as the broker stores it at `base_offset`, after `change` of its bytes.
fn stored(base_offset: i64, values: &[&str], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let records: Vec<_> = values.iter().map(|value| parts(value)).collect();
    let mut batch = batch_of(&records);
    batch[..8].copy_from_slice(&base_offset.to_be_bytes());
    change(&mut batch);
    batch
}

/// Makes the checksum right again after a change on purpose.
fn seal(batch: &mut [u8]) {
    let checksum = crc32c::crc32c(&batch[CHECKED_FROM..]);
    batch[17..21].copy_from_slice(&checksum.to_be_bytes());
}

fn set_attributes(batch: &mut [u8], attributes: i16) {
    batch[21..23].copy_from_slice(&attributes.to_be_bytes());
    seal(batch);
}

fn read(bytes: Vec<u8>) -> Vec<Result<RecordBatch, CorruptBatch>> {
    RecordBatches::new(bytes.into()).collect()
}

/// The values of the batches that can be read, and the base and next offsets of the others.
fn values(bytes: Vec<u8>) -> (Vec<String>, Vec<(i64, i64)>) {
    let (mut values, mut corrupt) = (Vec::new(), Vec::new());
    for batch in RecordBatches::new(bytes.into()) {
        match batch {
            Ok(batch) => {
                let records = batch.decode().unwrap();
                values.extend(
                    records
                        .iter()
                        .map(|record| String::from_utf8(record.value().unwrap().to_vec()).unwrap()),
                );
            }
            Err(batch) => corrupt.push((batch.base_offset, batch.next_offset)),
        }
    }
    (values, corrupt)
}

#[test]
fn null_keys_null_values_and_null_headers_are_read_back() {
    let mut headers = HeaderBuf::new();
    headers.push_nullable("null", None);
    headers.push("twice", b"1");
    headers.push("twice", b"2");
    let records = [
        Parts {
            key: Some(b"\xff\xfe".to_vec()),
            value: None,
            headers,
            timestamp_ms: 5,
        },
        Parts {
            key: None,
            value: Some(Vec::new()),
            headers: HeaderBuf::new(),
            timestamp_ms: 3,
        },
    ];
    let [Ok(batch)] = &read(batch_of(&records))[..] else {
        panic!()
    };
    let read = batch.clone().decode().unwrap();
    for (read, written) in read.iter().zip(&records) {
        assert_eq!(read.key(), written.key.as_deref());
        assert_eq!(read.value(), written.value.as_deref());
        assert_eq!(read.headers(), written.headers.as_headers());
        assert_eq!(read.timestamp_ms(), written.timestamp_ms);
    }
    assert_eq!(read.len(), 2);
}

#[test]
fn offsets_count_from_the_base_offset_to_the_last_offset_delta() {
    // Compaction keeps the deltas: three offsets, of which the first is left.
    let batch = stored(40, &["a"], |batch| {
        batch[23..27].copy_from_slice(&2_i32.to_be_bytes());
        seal(batch);
    });
    let [Ok(batch)] = &read(batch)[..] else { panic!() };
    assert_eq!((batch.base_offset, batch.next_offset), (40, 43));
    assert_eq!(batch.clone().decode().unwrap()[0].offset(), 40);
}

#[test]
fn log_append_time_is_the_timestamp_of_every_record() {
    let batch = stored(0, &["a", "b"], |batch| {
        batch[35..43].copy_from_slice(&77_000_i64.to_be_bytes());
        set_attributes(batch, LOG_APPEND_TIME);
    });
    let [Ok(batch)] = &read(batch)[..] else { panic!() };
    let times: Vec<_> = batch
        .clone()
        .decode()
        .unwrap()
        .iter()
        .map(ConsumedRecord::timestamp_ms)
        .collect();
    assert_eq!(times, [77_000, 77_000]);
}

#[test]
fn a_wrong_checksum_skips_that_batch_alone() {
    let corrupt = stored(12, &["c", "d"], |batch| *batch.last_mut().unwrap() ^= 1);
    let bytes = [stored(10, &["a", "b"], |_| {}), corrupt, stored(14, &["e"], |_| {})].concat();
    assert_eq!(
        values(bytes),
        (vec!["a".into(), "b".into(), "e".into()], vec![(12, 14)])
    );
}

#[test]
fn a_corrupt_batch_at_the_end_of_an_answer_is_skipped_as_a_whole() {
    let corrupt = stored(12, &["c", "d", "e"], |batch| *batch.last_mut().unwrap() ^= 1);
    assert_eq!(values(corrupt), (vec![], vec![(12, 15)]));
    // An end that contradicts the number of records is not believed.
    let corrupt = stored(12, &["c", "d", "e"], |batch| batch[24] = 0x7f);
    assert_eq!(values(corrupt), (vec![], vec![(12, 13)]));
}

#[test]
fn an_unknown_format_version_and_an_unknown_codec_are_reported() {
    let old = stored(3, &["a"], |batch| batch[16] = 1);
    let [Err(corrupt)] = &read(old)[..] else { panic!() };
    assert!(matches!(corrupt.cause, Malformed::Magic(1)), "{corrupt:?}");
    let [Ok(batch)] = &read(stored(3, &["a"], |batch| set_attributes(batch, 7)))[..] else {
        panic!()
    };
    assert!(matches!(batch.clone().decode(), Err(Malformed::Codec)));
}

#[test]
fn a_wrong_length_ends_the_answer() {
    for length in [-1_i32, 0, 48] {
        let wrong = stored(5, &["a"], |batch| batch[8..12].copy_from_slice(&length.to_be_bytes()));
        let bytes = [wrong, stored(6, &["b"], |_| {})].concat();
        assert_eq!(values(bytes), (vec![], vec![(5, 6)]), "{length}");
    }
}

#[test]
fn a_batch_that_was_cut_off_is_left_out() {
    let whole = stored(0, &["a"], |_| {});
    let next = stored(1, &["b"], |_| {});
    for cut in 0..next.len() {
        let bytes = [&whole[..], &next[..cut]].concat();
        assert_eq!(values(bytes), (vec!["a".into()], vec![]), "{cut}");
    }
}

#[test]
fn counts_and_lengths_that_are_not_true_are_malformed() {
    for count in [2_i32, i32::MAX] {
        let batch = stored(0, &["a"], |batch| {
            batch[57..61].copy_from_slice(&count.to_be_bytes());
            seal(batch);
        });
        let [Ok(batch)] = &read(batch)[..] else { panic!() };
        assert!(matches!(batch.clone().decode(), Err(Malformed::Record(1))), "{count}");
    }
    // A record that is longer than its length says.
    let batch = stored(0, &["abc"], |batch| {
        batch[HEADER_BYTES] -= 2;
        seal(batch);
    });
    let [Ok(batch)] = &read(batch)[..] else { panic!() };
    assert!(matches!(batch.clone().decode(), Err(Malformed::Record(0))));
}

#[test]
fn control_batches_say_how_a_transaction_ended() {
    for (kind, end) in [
        (0_u8, Some(TransactionEnd::Aborted)),
        (1, Some(TransactionEnd::Committed)),
        (5, None),
    ] {
        let marker = Parts {
            key: Some(vec![0, 0, 0, kind]),
            value: Some(vec![0; 6]),
            ..parts("")
        };
        let mut bytes = batch_of(&[marker]);
        set_attributes(&mut bytes, CONTROL | TRANSACTIONAL);
        let [Ok(batch)] = &read(bytes)[..] else { panic!() };
        assert!(batch.is_control() && batch.is_transactional());
        assert_eq!(batch.transaction_end(), end, "{kind}");
    }
}

#[test]
fn records_share_the_memory_of_their_answer() {
    let bytes = Bytes::from(stored(0, &["a value"], |_| {}));
    let batch = RecordBatches::new(bytes.clone()).next().unwrap().unwrap();
    let record = batch.decode().unwrap().remove(0);
    let value = record.value().unwrap().as_ptr();
    assert!(bytes.as_ptr_range().contains(&value));
}

fn any_parts() -> impl Strategy<Value = Parts> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..100);
    let headers = prop::collection::vec(("[a-z]{0,8}", prop::option::of(bytes())), 0..4).prop_map(|headers| {
        let mut all = HeaderBuf::new();
        headers
            .iter()
            .for_each(|(name, value)| all.push_nullable(name, value.as_deref()));
        all
    });
    (
        prop::option::of(bytes()),
        prop::option::of(bytes()),
        headers,
        any::<i64>().prop_map(|time| time >> 8),
    )
        .prop_map(|(key, value, headers, timestamp_ms)| Parts {
            key,
            value,
            headers,
            timestamp_ms,
        })
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(records in prop::collection::vec(any_parts(), 1..20)) {
        let batches = read(batch_of(&records));
        let [Ok(batch)] = &batches[..] else { panic!("{batches:?}") };
        prop_assert_eq!(batch.next_offset, i64::try_from(records.len()).unwrap());
        let decoded: Vec<_> = batch.clone().decode().unwrap().iter().map(|record| Parts {
            key: record.key().map(<[u8]>::to_vec),
            value: record.value().map(<[u8]>::to_vec),
            headers: record.headers().to_buf(),
            timestamp_ms: record.timestamp_ms(),
        }).collect();
        prop_assert_eq!(decoded, records);
    }

    #[test]
    fn hostile_bytes_never_panic_and_always_make_progress(
        values in prop::collection::vec("[a-z]{0,5}", 1..5),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        sealed: bool,
    ) {
        let values: Vec<_> = values.iter().map(String::as_str).collect();
        let bytes = stored(100, &values, |batch| {
            for (index, byte) in &changes {
                let at = index.index(batch.len());
                batch[at] = *byte;
            }
            if sealed {
                seal(batch);
            }
        });
        for batch in RecordBatches::new(bytes.into()) {
            match batch {
                Ok(batch) => {
                    prop_assert!(batch.next_offset > batch.base_offset || batch.base_offset == i64::MAX);
                    let _ = batch.transaction_end();
                    drop(batch.decode());
                }
                Err(batch) => prop_assert!(batch.next_offset > batch.base_offset || batch.base_offset == i64::MAX),
            }
        }
    }
}
