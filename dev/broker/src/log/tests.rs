use super::*;
use crate::batch::tests::{batch, encode, validate};

/// No limit for these tests.
const UNLIMITED: usize = 1 << 20;

fn log_of(batches: &[usize]) -> Log {
    let mut log = Log::new(UNLIMITED, 0);
    for records in batches {
        log.append(batch(*records));
    }
    log
}

fn log_with_timestamps(batches: &[&[i64]]) -> Log {
    let mut log = Log::new(UNLIMITED, 0);
    for timestamps in batches {
        log.append(validate(&encode(timestamps, b"value", 0)).unwrap());
    }
    log
}

/// The base offsets of the batches that a read returns.
fn read_bases(log: &Log, from: i64, max_bytes: usize, min_one_batch: bool) -> Result<Vec<i64>, OffsetOutOfRange> {
    let fetched = log.read(from, log.end_offset(), max_bytes, min_one_batch)?;
    assert_eq!(
        fetched.size_bytes,
        fetched.batches.iter().map(Bytes::len).sum::<usize>()
    );
    let base = |bytes: &Bytes| i64::from_be_bytes(bytes[..8].try_into().unwrap());
    Ok(fetched.batches.iter().map(base).collect())
}

fn record_at(offset: i64, timestamp: i64) -> Option<TimestampAndOffset> {
    Some(TimestampAndOffset {
        offset,
        timestamp,
        leader_epoch: 0,
    })
}

#[test]
fn empty_log_reads_at_its_end_only() {
    let log = log_of(&[]);
    assert_eq!(
        (log.start_offset(), log.end_offset(), log.last_stable_offset()),
        (0, 0, 0)
    );
    assert_eq!(read_bases(&log, 0, UNLIMITED, true), Ok(vec![]));
    assert_eq!(read_bases(&log, -1, UNLIMITED, true), Err(OffsetOutOfRange));
    assert_eq!(read_bases(&log, 1, UNLIMITED, true), Err(OffsetOutOfRange));
    assert_eq!(log.find_timestamp(0, 0), None);
    assert_eq!(log.max_timestamp(), None);
}

#[test]
fn append_assigns_consecutive_offsets() {
    let mut log = log_of(&[3, 1]);
    assert_eq!(log.append(batch(2)), 4);
    assert_eq!(log.end_offset(), 6);
    assert_eq!(read_bases(&log, 0, UNLIMITED, true), Ok(vec![0, 3, 4]));
    assert_eq!(read_bases(&log, 6, UNLIMITED, true), Ok(vec![]));
    assert_eq!(read_bases(&log, 7, UNLIMITED, true), Err(OffsetOutOfRange));
}

#[test]
fn read_starts_at_the_batch_that_holds_the_offset() {
    let log = log_of(&[3, 3]);
    assert_eq!(read_bases(&log, 2, UNLIMITED, true), Ok(vec![0, 3]));
    assert_eq!(read_bases(&log, 4, UNLIMITED, true), Ok(vec![3]));
    assert_eq!(read_bases(&log, 5, UNLIMITED, true), Ok(vec![3]));
}

#[test]
fn read_honors_max_bytes_and_min_one_batch() {
    let log = log_of(&[1, 1, 1]);
    let one = log.read(0, 1, UNLIMITED, true).unwrap().size_bytes;
    assert_eq!(read_bases(&log, 0, 2 * one, true), Ok(vec![0, 1]));
    assert_eq!(read_bases(&log, 0, 2 * one - 1, true), Ok(vec![0]));
    assert_eq!(read_bases(&log, 0, 1, true), Ok(vec![0]));
    assert_eq!(read_bases(&log, 0, one - 1, false), Ok(vec![]));
    assert_eq!(read_bases(&log, 0, one, false), Ok(vec![0]));
}

#[test]
fn read_does_not_copy_batches() {
    let log = log_of(&[1]);
    let once = log.read(0, 1, UNLIMITED, true).unwrap();
    let twice = log.read(0, 1, UNLIMITED, true).unwrap();
    assert_eq!(once.batches[0].as_ptr(), twice.batches[0].as_ptr());
}

#[test]
fn retention_deletes_the_oldest_batches() {
    let one = memory_bytes(&log_of(&[1]).read(0, 1, UNLIMITED, true).unwrap().batches[0]);
    let mut log = Log::new(2 * one, 0);
    for _ in 0..5 {
        log.append(batch(1));
        assert!(log.size_bytes <= 2 * one);
    }
    assert_eq!((log.start_offset(), log.end_offset()), (3, 5));
    assert_eq!(read_bases(&log, 2, UNLIMITED, true), Err(OffsetOutOfRange));
    assert_eq!(read_bases(&log, 3, UNLIMITED, true), Ok(vec![3, 4]));
    log.append(validate(&encode(&[0], &[0; 5000], 0)).unwrap());
    assert_eq!((log.start_offset(), log.end_offset()), (5, 6));
    assert_eq!(read_bases(&log, 5, 1, true), Ok(vec![5]));
}

#[test]
fn find_timestamp_gives_first_record_at_or_after() {
    let log = log_with_timestamps(&[&[100, 300, 200], &[250], &[400, 500]]);
    assert_eq!(log.find_timestamp(0, 9), record_at(0, 100));
    assert_eq!(log.find_timestamp(101, 9), record_at(1, 300));
    assert_eq!(log.find_timestamp(301, 9), record_at(4, 400));
    assert_eq!(log.find_timestamp(500, 9), record_at(5, 500));
    assert_eq!(log.find_timestamp(501, 9), None);
    assert_eq!(log.find_timestamp(301, 4), None, "not below max_offset");
    assert_eq!(log.max_timestamp(), record_at(5, 500));
}

#[test]
fn find_timestamp_in_compressed_batch_gives_its_first_record() {
    let mut log = log_with_timestamps(&[&[100]]);
    log.append(validate(&encode(&[200, 300], b"value", 1)).unwrap());
    assert_eq!(log.find_timestamp(300, 9), record_at(1, 200));
}

#[test]
fn delete_records_moves_start_offset_into_a_batch() {
    let mut log = log_of(&[3, 3]);
    log.delete_records(2).unwrap();
    assert_eq!(log.start_offset(), 2);
    assert_eq!(read_bases(&log, 2, UNLIMITED, true), Ok(vec![0, 3]));
    assert_eq!(read_bases(&log, 1, UNLIMITED, true), Err(OffsetOutOfRange));
    assert_eq!(log.find_timestamp(0, 9), record_at(2, 1000));
    log.delete_records(1).unwrap();
    assert_eq!(log.start_offset(), 2);
    log.delete_records(6).unwrap();
    assert_eq!((log.start_offset(), log.end_offset(), log.size_bytes), (6, 6, 0));
    assert_eq!(log.append(batch(1)), 6);
    assert_eq!(log.delete_records(8), Err(OffsetOutOfRange));
    assert_eq!(log.delete_records(-1), Err(OffsetOutOfRange));
}

#[test]
fn truncate_removes_whole_batches_and_begins_epoch() {
    let mut log = log_of(&[3, 3]);
    log.truncate(4).unwrap();
    assert_eq!(log.end_offset(), 4);
    assert_eq!(read_bases(&log, 0, UNLIMITED, true), Ok(vec![0]));
    assert_eq!(read_bases(&log, 3, UNLIMITED, true), Ok(vec![]));
    assert_eq!(log.append(batch(1)), 4);
    // Offset 3 is gone; a read from there gets the next batch.
    assert_eq!(read_bases(&log, 3, UNLIMITED, true), Ok(vec![4]));
    assert_eq!((log.leader_epoch(), log.end_offset_for_epoch(0)), (1, (0, 4)));
    assert_eq!(log.truncate(6), Err(OffsetOutOfRange));
    log.truncate(0).unwrap();
    assert_eq!((log.end_offset(), log.size_bytes), (0, 0));
}

#[test]
fn new_leader_begins_epoch() {
    let mut log = log_of(&[2]);
    log.begin_epoch();
    log.append(batch(1));
    let epoch = |bytes: &Bytes| i32::from_be_bytes(bytes[12..16].try_into().unwrap());
    let fetched = log.read(0, 3, UNLIMITED, true).unwrap();
    assert_eq!(fetched.batches.iter().map(epoch).collect::<Vec<_>>(), [0, 1]);
    assert_eq!((log.epoch_for_offset(1), log.epoch_for_offset(2)), (0, 1));
}

mod transactional {
    use super::*;
    use crate::Poison;

    fn append(log: &mut Log, poison: Poison) -> i64 {
        log.append(Batch::unchecked(&poison.batch(2)).unwrap())
    }

    fn marker(producer_id: i64, commit: bool) -> Poison {
        Poison::Marker { producer_id, commit }
    }

    #[test]
    fn open_transaction_holds_back_last_stable_offset() {
        let mut log = log_of(&[1]);
        append(&mut log, Poison::OpenTransaction { producer_id: 7 });
        append(&mut log, Poison::OpenTransaction { producer_id: 8 });
        log.append(batch(1));
        assert_eq!((log.last_stable_offset(), log.end_offset()), (1, 6));
        append(&mut log, marker(7, true));
        assert_eq!(log.last_stable_offset(), 3);
        append(&mut log, marker(8, false));
        assert_eq!(log.last_stable_offset(), log.end_offset());
        let aborted = log.aborted_txns(0, log.end_offset());
        assert_eq!(
            aborted
                .iter()
                .map(|txn| (txn.producer_id, txn.first_offset))
                .collect::<Vec<_>>(),
            [(8, 3)]
        );
        assert_eq!(log.aborted_txns(8, log.end_offset()), []);
        assert_eq!(log.aborted_txns(0, 3), []);
    }

    #[test]
    fn transaction_is_open_again_after_its_marker_is_truncated() {
        let mut log = log_of(&[1]);
        append(&mut log, Poison::OpenTransaction { producer_id: 7 });
        let abort = append(&mut log, marker(7, false));
        log.truncate(abort).unwrap();
        assert_eq!(log.last_stable_offset(), 1);
        log.truncate(1).unwrap();
        assert_eq!(log.last_stable_offset(), 1);
        assert_eq!(append(&mut log, marker(7, false)), 1);
        assert_eq!(log.last_stable_offset(), 2);
    }
}
