use super::*;
use crate::batch::tests::{batch, check, produced};

/// Room for everything a test appends.
const AMPLE: usize = 1 << 20;

fn log(batches: &[usize]) -> Log {
    let mut log = Log::new(AMPLE, 0);
    for records in batches {
        log.append(batch(*records));
    }
    log
}

fn timed(batches: &[&[i64]]) -> Log {
    let mut log = Log::new(AMPLE, 0);
    for timestamps in batches {
        log.append(check(&produced(timestamps, b"value", 0)).unwrap());
    }
    log
}

/// The base offsets of what is read.
fn bases(log: &Log, from: i64, max_bytes: usize, at_least_one: bool) -> Result<Vec<i64>, OutOfRange> {
    let slice = log.read(from, log.end(), max_bytes, at_least_one)?;
    assert_eq!(slice.len_bytes, slice.batches.iter().map(Bytes::len).sum::<usize>());
    let base = |bytes: &Bytes| i64::from_be_bytes(bytes[..8].try_into().unwrap());
    Ok(slice.batches.iter().map(base).collect())
}

fn found(offset: i64, timestamp: i64) -> Option<Found> {
    Some(Found {
        offset,
        timestamp,
        epoch: 0,
    })
}

#[test]
fn an_empty_log_has_one_readable_offset() {
    let log = log(&[]);
    assert_eq!((log.start(), log.end(), log.stable()), (0, 0, 0));
    assert_eq!(bases(&log, 0, AMPLE, true), Ok(vec![]));
    assert_eq!(bases(&log, -1, AMPLE, true), Err(OutOfRange));
    assert_eq!(bases(&log, 1, AMPLE, true), Err(OutOfRange));
    assert_eq!(log.at_timestamp(0, 0), None);
    assert_eq!(log.at_max_timestamp(), None);
}

#[test]
fn batches_follow_each_other() {
    let mut log = log(&[3, 1]);
    assert_eq!(log.append(batch(2)), 4);
    assert_eq!(log.end(), 6);
    assert_eq!(bases(&log, 0, AMPLE, true), Ok(vec![0, 3, 4]));
    assert_eq!(bases(&log, 6, AMPLE, true), Ok(vec![]));
    assert_eq!(bases(&log, 7, AMPLE, true), Err(OutOfRange));
}

#[test]
fn an_offset_inside_a_batch_gives_that_batch() {
    let log = log(&[3, 3]);
    assert_eq!(bases(&log, 2, AMPLE, true), Ok(vec![0, 3]));
    assert_eq!(bases(&log, 4, AMPLE, true), Ok(vec![3]));
    assert_eq!(bases(&log, 5, AMPLE, true), Ok(vec![3]));
}

#[test]
fn whole_batches_up_to_the_limit_and_one_in_any_case() {
    let log = log(&[1, 1, 1]);
    let one = log.read(0, 1, AMPLE, true).unwrap().len_bytes;
    assert_eq!(bases(&log, 0, 2 * one, true), Ok(vec![0, 1]));
    assert_eq!(bases(&log, 0, 2 * one - 1, true), Ok(vec![0]));
    assert_eq!(bases(&log, 0, 1, true), Ok(vec![0]));
    assert_eq!(bases(&log, 0, one - 1, false), Ok(vec![]));
    assert_eq!(bases(&log, 0, one, false), Ok(vec![0]));
}

#[test]
fn reads_share_the_bytes_of_the_log() {
    let log = log(&[1]);
    let once = log.read(0, 1, AMPLE, true).unwrap();
    let twice = log.read(0, 1, AMPLE, true).unwrap();
    assert_eq!(once.batches[0].as_ptr(), twice.batches[0].as_ptr());
}

#[test]
fn the_oldest_go_and_the_newest_stays() {
    let one = held(&log(&[1]).read(0, 1, AMPLE, true).unwrap().batches[0]);
    let mut log = Log::new(2 * one, 0);
    for _ in 0..5 {
        log.append(batch(1));
        assert!(log.held_bytes <= 2 * one);
    }
    assert_eq!((log.start(), log.end()), (3, 5));
    assert_eq!(bases(&log, 2, AMPLE, true), Err(OutOfRange));
    assert_eq!(bases(&log, 3, AMPLE, true), Ok(vec![3, 4]));
    log.append(check(&produced(&[0], &[0; 5000], 0)).unwrap());
    assert_eq!((log.start(), log.end()), (5, 6));
    assert_eq!(bases(&log, 5, 1, true), Ok(vec![5]));
}

#[test]
fn a_time_leads_to_the_first_record_not_before_it() {
    let log = timed(&[&[100, 300, 200], &[250], &[400, 500]]);
    assert_eq!(log.at_timestamp(0, 9), found(0, 100));
    assert_eq!(log.at_timestamp(101, 9), found(1, 300));
    assert_eq!(log.at_timestamp(301, 9), found(4, 400));
    assert_eq!(log.at_timestamp(500, 9), found(5, 500));
    assert_eq!(log.at_timestamp(501, 9), None);
    assert_eq!(log.at_timestamp(301, 4), None, "not yet readable");
    assert_eq!(log.at_max_timestamp(), found(5, 500));
}

#[test]
fn a_time_inside_a_packed_batch_leads_to_its_start() {
    let mut log = timed(&[&[100]]);
    log.append(check(&produced(&[200, 300], b"value", 1)).unwrap());
    assert_eq!(log.at_timestamp(300, 9), found(1, 200));
}

#[test]
fn deleting_moves_the_start_also_into_a_batch() {
    let mut log = log(&[3, 3]);
    log.delete_below(2).unwrap();
    assert_eq!(log.start(), 2);
    assert_eq!(bases(&log, 2, AMPLE, true), Ok(vec![0, 3]));
    assert_eq!(bases(&log, 1, AMPLE, true), Err(OutOfRange));
    assert_eq!(log.at_timestamp(0, 9), found(2, 1000));
    log.delete_below(1).unwrap();
    assert_eq!(log.start(), 2);
    log.delete_below(6).unwrap();
    assert_eq!((log.start(), log.end(), log.held_bytes), (6, 6, 0));
    assert_eq!(log.append(batch(1)), 6);
    assert_eq!(log.delete_below(8), Err(OutOfRange));
    assert_eq!(log.delete_below(-1), Err(OutOfRange));
}

#[test]
fn truncating_drops_whole_batches_and_begins_an_epoch() {
    let mut log = log(&[3, 3]);
    log.truncate(4).unwrap();
    assert_eq!(log.end(), 4);
    assert_eq!(bases(&log, 0, AMPLE, true), Ok(vec![0]));
    assert_eq!(bases(&log, 3, AMPLE, true), Ok(vec![]));
    assert_eq!(log.append(batch(1)), 4);
    // Offset 3 is lost for good; who reads on from there gets what follows.
    assert_eq!(bases(&log, 3, AMPLE, true), Ok(vec![4]));
    assert_eq!((log.epoch(), log.end_of_epoch(0)), (1, (0, 4)));
    assert_eq!(log.truncate(6), Err(OutOfRange));
    log.truncate(0).unwrap();
    assert_eq!((log.end(), log.held_bytes), (0, 0));
}

#[test]
fn a_new_leader_begins_an_epoch() {
    let mut log = log(&[2]);
    log.begin_epoch();
    log.append(batch(1));
    let epoch = |bytes: &Bytes| i32::from_be_bytes(bytes[12..16].try_into().unwrap());
    let slice = log.read(0, 3, AMPLE, true).unwrap();
    assert_eq!(slice.batches.iter().map(epoch).collect::<Vec<_>>(), [0, 1]);
    assert_eq!((log.epoch_at(1), log.epoch_at(2)), (0, 1));
}

#[cfg(feature = "faults")]
mod transactional {
    use super::*;
    use crate::Poison;

    fn append(log: &mut Log, poison: Poison) -> i64 {
        log.append(Batch::verbatim(&poison.batch(2)).unwrap())
    }

    #[test]
    fn an_open_transaction_holds_back_the_stable_offset() {
        let mut log = log(&[1]);
        append(&mut log, Poison::OpenTransaction { producer_id: 7 });
        append(&mut log, Poison::OpenTransaction { producer_id: 8 });
        log.append(batch(1));
        assert_eq!((log.stable(), log.end()), (1, 6));
        append(
            &mut log,
            Poison::Marker {
                producer_id: 7,
                commit: true,
            },
        );
        assert_eq!(log.stable(), 3);
        append(
            &mut log,
            Poison::Marker {
                producer_id: 8,
                commit: false,
            },
        );
        assert_eq!(log.stable(), log.end());
        let aborted = log.aborted(0, log.end());
        assert_eq!(
            aborted
                .iter()
                .map(|gone| (gone.producer_id, gone.first))
                .collect::<Vec<_>>(),
            [(8, 3)]
        );
        assert_eq!(log.aborted(8, log.end()), []);
        assert_eq!(log.aborted(0, 3), []);
    }

    #[test]
    fn a_truncated_abort_is_open_again() {
        let mut log = log(&[1]);
        append(&mut log, Poison::OpenTransaction { producer_id: 7 });
        let marker = append(
            &mut log,
            Poison::Marker {
                producer_id: 7,
                commit: false,
            },
        );
        log.truncate(marker).unwrap();
        assert_eq!(log.stable(), 1);
        log.truncate(1).unwrap();
        assert_eq!(log.stable(), 1);
        assert_eq!(
            append(
                &mut log,
                Poison::Marker {
                    producer_id: 7,
                    commit: false
                }
            ),
            1
        );
        assert_eq!(log.stable(), 2);
    }
}
