use chrono::DateTime;
use rskafka::record::{Record, RecordAndOffset};

use super::*;

/// The records at `offsets`, with the timestamps `epoch_ms` + offset.
fn records(offsets: std::ops::Range<i64>, epoch_ms: i64) -> Vec<ConsumedRecord> {
    let record = |offset| RecordAndOffset {
        record: Record {
            key: None,
            value: None,
            headers: Default::default(),
            timestamp: DateTime::from_timestamp_millis(epoch_ms + offset).unwrap(),
        },
        offset,
    };
    offsets.map(|offset| ConsumedRecord(record(offset))).collect()
}

fn undecodable() -> Error {
    Error::Undecodable("bad record".into())
}

fn delivered(step: Step) -> Vec<i64> {
    match step {
        Step::Deliver(records) => records.iter().map(ConsumedRecord::offset).collect(),
        other => panic!("{other:?}"),
    }
}

/// A cursor at `position`, which is the end of the log.
fn at(position: i64) -> Cursor {
    let mut cursor = Cursor::new(Start::Latest, ConsumerMetrics::default());
    assert_eq!(cursor.on_offset(position), Step::Again);
    cursor
}

#[test]
fn start_looks_up_its_end_of_the_log() {
    for (start, end) in [(Start::Latest, End::Latest), (Start::Earliest, End::Earliest)] {
        let mut cursor = Cursor::new(start, ConsumerMetrics::default());
        assert!(!cursor.is_resolved());
        assert_eq!(cursor.request(), Request::Offset(end));
        cursor.on_offset(7);
        assert!(cursor.is_resolved());
        assert_eq!(cursor.request(), Request::Fetch(7, FetchSize::Full));
    }
}

#[test]
fn position_moves_behind_delivered_records() {
    let mut cursor = at(5);
    assert_eq!(delivered(cursor.on_records(records(5..8, 0), 8)), [5, 6, 7]);
    assert_eq!(cursor.request(), Request::Fetch(8, FetchSize::Full));
    assert_eq!(cursor.on_records(Vec::new(), 8), Step::Again);
    assert_eq!(cursor.request(), Request::Fetch(8, FetchSize::Full));
}

/// Reads a log of batches of `size` records; the batch with offset `bad` cannot be decoded. Returns the offsets that were read
/// and the number of skipped ones.
fn read_around_bad_batch(size: i64, bad: i64, end: i64) -> (Vec<i64>, u64) {
    let metrics = ConsumerMetrics::default();
    let mut cursor = Cursor::new(Start::Earliest, metrics.clone());
    cursor.on_offset(0);
    let (mut read, mut requests) = (Vec::new(), 0);
    while cursor.position() < end {
        requests += 1;
        assert!(requests < 10 * end, "the cursor is stuck");
        let (from, fetch_size) = match cursor.request() {
            Request::Fetch(from, fetch_size) => (from, fetch_size),
            Request::Offset(End::Latest) => {
                cursor.on_offset(end);
                continue;
            }
            other => panic!("{other:?}"),
        };
        let until = match fetch_size {
            FetchSize::Full => end,
            FetchSize::SingleBatch => (from / size + 1) * size,
        };
        let bad_batch = bad / size * size..(bad / size + 1) * size;
        let fails = from < bad_batch.end && until > bad_batch.start;
        if fails {
            assert_eq!(cursor.on_error(&undecodable()), Step::Again);
        } else {
            read.extend(delivered(cursor.on_records(records(from..until, 0), end)));
        }
    }
    (read, metrics.skipped.get())
}

#[test]
fn undecodable_batch_is_skipped_alone() {
    for bad in [0, 4, 29] {
        let (read, skipped) = read_around_bad_batch(3, bad, 30);
        let first = bad / 3 * 3;
        let good: Vec<_> = (0..30).filter(|offset| !(first..first + 3).contains(offset)).collect();
        assert_eq!((read, skipped), (good, 3), "bad record {bad}");
    }
}

#[test]
fn undecodable_answer_at_the_end_of_the_log_skips_nothing() {
    let mut cursor = at(5);
    // The answers cannot be decoded, but the log has no record that could be the cause.
    for _ in 0..3 {
        assert_eq!(cursor.on_error(&undecodable()), Step::Again);
        assert_eq!(cursor.request(), Request::Fetch(5, FetchSize::SingleBatch));
        assert_eq!(cursor.on_error(&undecodable()), Step::Again);
        assert_eq!(cursor.request(), Request::Offset(End::Latest));
        assert_eq!(cursor.on_offset(5), Step::Reconnect);
        assert_eq!((cursor.position(), cursor.metrics.skipped.get()), (5, 0));
    }
}

#[test]
fn open_transaction_stalls_and_skips_nothing() {
    let mut cursor = at(5);
    for _ in 0..3 {
        assert_eq!(cursor.on_records(Vec::new(), 9), Step::Again);
        assert_eq!(cursor.request(), Request::Offset(End::Latest));
        assert_eq!(cursor.on_offset(5), Step::Stalled);
        assert_eq!(cursor.request(), Request::Fetch(5, FetchSize::Full));
    }
    assert_eq!(cursor.metrics.stalls.get(), 3);
    assert_eq!(delivered(cursor.on_records(records(5..8, 0), 9)), [5, 6, 7]);
}

#[test]
fn transaction_marker_is_stepped_over() {
    let mut cursor = at(5);
    cursor.on_records(Vec::new(), 6);
    assert_eq!(cursor.on_offset(6), Step::Again);
    assert_eq!(cursor.request(), Request::Fetch(5, FetchSize::SingleBatch));
    assert_eq!(cursor.on_records(Vec::new(), 6), Step::Again);
    assert_eq!(cursor.request(), Request::Fetch(6, FetchSize::Full));
}

#[test]
fn records_that_arrive_during_the_check_are_delivered() {
    let mut cursor = at(5);
    cursor.on_records(Vec::new(), 6);
    cursor.on_offset(6);
    assert_eq!(delivered(cursor.on_records(records(5..6, 0), 6)), [5]);
}

#[test]
fn deleted_records_are_counted_as_lost() {
    let mut cursor = at(5);
    assert_eq!(cursor.on_error(&Error::OutOfRange), Step::Again);
    assert_eq!(cursor.request(), Request::Offset(End::Earliest));
    cursor.on_offset(9);
    assert_eq!(cursor.request(), Request::Fetch(9, FetchSize::Full));
    assert_eq!(cursor.metrics.lost.get(), 4);
}

#[test]
fn shorter_log_is_read_from_the_beginning() {
    let mut cursor = at(50);
    cursor.on_error(&Error::OutOfRange);
    cursor.on_offset(0);
    assert_eq!(cursor.request(), Request::Fetch(0, FetchSize::Full));
    assert_eq!(cursor.metrics.lost.get(), 0);
}

#[test]
fn recreated_topic_is_read_from_the_beginning() {
    let mut cursor = at(50);
    assert_eq!(cursor.on_error(&Error::TopicMissing("t".into())), Step::Reconnect);
    cursor.on_topic_missing();
    cursor.on_connected();
    assert_eq!(cursor.request(), Request::Offset(End::Earliest));
}

#[test]
fn topic_missing_once_is_verified_by_the_last_record() {
    let mut cursor = at(5);
    cursor.on_records(records(5..8, 0), 8);
    cursor.on_topic_missing();
    cursor.on_connected();
    assert_eq!(cursor.request(), Request::Fetch(7, FetchSize::SingleBatch));
    cursor.on_records(records(7..8, 0), 8);
    assert_eq!(cursor.request(), Request::Fetch(8, FetchSize::Full));
}

#[test]
fn topic_missing_before_the_start_keeps_the_start() {
    let mut cursor = Cursor::new(Start::Latest, ConsumerMetrics::default());
    cursor.on_topic_missing();
    assert_eq!(cursor.request(), Request::Offset(End::Latest));
}

#[test]
fn replaced_log_is_detected_after_a_reconnect() {
    let mut cursor = at(5);
    cursor.on_records(records(5..8, 0), 8);
    cursor.on_connected();
    assert_eq!(cursor.request(), Request::Fetch(7, FetchSize::SingleBatch));
    assert_eq!(cursor.on_records(records(6..20, 1000), 20), Step::Again);
    assert_eq!(cursor.request(), Request::Offset(End::Earliest));
    cursor.on_offset(0);
    assert_eq!(cursor.request(), Request::Fetch(0, FetchSize::Full));
}

#[test]
fn same_log_continues_after_a_reconnect() {
    for answer in [Some(records(6..8, 0)), Some(Vec::new()), None] {
        let mut cursor = at(5);
        cursor.on_records(records(5..8, 0), 8);
        cursor.on_connected();
        let step = match answer {
            Some(records) => cursor.on_records(records, 8),
            None => cursor.on_error(&Error::OutOfRange),
        };
        assert_eq!(step, Step::Again);
        assert_eq!(cursor.request(), Request::Fetch(8, FetchSize::Full));
    }
}

#[test]
fn lower_high_watermark_is_verified() {
    let mut cursor = at(5);
    cursor.on_records(records(5..8, 0), 20);
    assert_eq!(cursor.on_records(Vec::new(), 8), Step::Again);
    assert_eq!(cursor.request(), Request::Fetch(7, FetchSize::SingleBatch));
}

#[test]
fn other_errors_reconnect_and_keep_the_position() {
    let mut cursor = at(5);
    for error in [
        Error::TimedOut(std::time::Duration::ZERO),
        Error::Failed("gone".into()),
        Error::TopicMissing("t".into()),
    ] {
        assert_eq!(cursor.on_error(&error), Step::Reconnect);
        assert_eq!(cursor.position(), 5);
    }
}
