use chrono::DateTime;
use rskafka::record::{Record, RecordAndOffset};

use super::*;

/// Records `offsets` of a log that began at `epoch_ms`.
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
fn begins_where_it_is_told() {
    for (start, end) in [(Start::Latest, End::Latest), (Start::Earliest, End::Earliest)] {
        let mut cursor = Cursor::new(start, ConsumerMetrics::default());
        assert!(!cursor.is_resolved());
        assert_eq!(cursor.ask(), Ask::Offset(end));
        cursor.on_offset(7);
        assert!(cursor.is_resolved());
        assert_eq!(cursor.ask(), Ask::Fetch(7, FetchSize::Full));
    }
}

#[test]
fn moves_behind_what_it_handed_on() {
    let mut cursor = at(5);
    assert_eq!(delivered(cursor.on_records(records(5..8, 0), 8)), [5, 6, 7]);
    assert_eq!(cursor.ask(), Ask::Fetch(8, FetchSize::Full));
    assert_eq!(cursor.on_records(Vec::new(), 8), Step::Again);
    assert_eq!(cursor.ask(), Ask::Fetch(8, FetchSize::Full));
}

/// A log of batches of `size` records, in which the batch that holds `bad` cannot be decoded.
fn read_around_bad_batch(size: i64, bad: i64, end: i64) -> (Vec<i64>, u64) {
    let metrics = ConsumerMetrics::default();
    let mut cursor = Cursor::new(Start::Earliest, metrics.clone());
    cursor.on_offset(0);
    let (mut read, mut asked) = (Vec::new(), 0);
    while cursor.position() < end {
        asked += 1;
        assert!(asked < 10 * end, "it goes on");
        let (from, width) = match cursor.ask() {
            Ask::Fetch(from, width) => (from, width),
            Ask::Offset(End::Latest) => {
                cursor.on_offset(end);
                continue;
            }
            other => panic!("{other:?}"),
        };
        let until = match width {
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
fn a_batch_that_cannot_be_decoded_costs_its_own_records_only() {
    for bad in [0, 4, 29] {
        let (read, skipped) = read_around_bad_batch(3, bad, 30);
        let first = bad / 3 * 3;
        let good: Vec<_> = (0..30).filter(|it| !(first..first + 3).contains(it)).collect();
        assert_eq!((read, skipped), (good, 3), "bad record {bad}");
    }
}

#[test]
fn behind_the_end_of_the_log_nothing_is_skipped() {
    let mut cursor = at(5);
    // The answers cannot be decoded, but there is no record yet whose fault that could be.
    for _ in 0..3 {
        assert_eq!(cursor.on_error(&undecodable()), Step::Again);
        assert_eq!(cursor.ask(), Ask::Fetch(5, FetchSize::SingleBatch));
        assert_eq!(cursor.on_error(&undecodable()), Step::Again);
        assert_eq!(cursor.ask(), Ask::Offset(End::Latest));
        assert_eq!(cursor.on_offset(5), Step::Reconnect);
        assert_eq!((cursor.position(), cursor.metrics.skipped.get()), (5, 0));
    }
}

#[test]
fn nothing_is_skipped_behind_an_open_transaction() {
    let mut cursor = at(5);
    for _ in 0..3 {
        assert_eq!(cursor.on_records(Vec::new(), 9), Step::Again);
        assert_eq!(cursor.ask(), Ask::Offset(End::Latest));
        assert_eq!(cursor.on_offset(5), Step::Stalled);
        assert_eq!(cursor.ask(), Ask::Fetch(5, FetchSize::Full));
    }
    assert_eq!(cursor.metrics.stalls.get(), 3);
    assert_eq!(delivered(cursor.on_records(records(5..8, 0), 9)), [5, 6, 7]);
}

#[test]
fn a_transaction_marker_is_stepped_over_once_it_is_certain() {
    let mut cursor = at(5);
    cursor.on_records(Vec::new(), 6);
    assert_eq!(cursor.on_offset(6), Step::Again);
    assert_eq!(cursor.ask(), Ask::Fetch(5, FetchSize::SingleBatch));
    assert_eq!(cursor.on_records(Vec::new(), 6), Step::Again);
    assert_eq!(cursor.ask(), Ask::Fetch(6, FetchSize::Full));
}

#[test]
fn records_that_came_meanwhile_are_not_taken_for_a_marker() {
    let mut cursor = at(5);
    cursor.on_records(Vec::new(), 6);
    cursor.on_offset(6);
    assert_eq!(delivered(cursor.on_records(records(5..6, 0), 6)), [5]);
}

#[test]
fn deleted_records_are_counted_and_passed() {
    let mut cursor = at(5);
    assert_eq!(cursor.on_error(&Error::OutOfRange), Step::Again);
    assert_eq!(cursor.ask(), Ask::Offset(End::Earliest));
    cursor.on_offset(9);
    assert_eq!(cursor.ask(), Ask::Fetch(9, FetchSize::Full));
    assert_eq!(cursor.metrics.lost.get(), 4);
}

#[test]
fn a_log_that_is_shorter_is_read_from_its_beginning() {
    let mut cursor = at(50);
    cursor.on_error(&Error::OutOfRange);
    cursor.on_offset(0);
    assert_eq!(cursor.ask(), Ask::Fetch(0, FetchSize::Full));
    assert_eq!(cursor.metrics.lost.get(), 0);
}

#[test]
fn a_topic_that_was_gone_is_read_from_its_beginning() {
    let mut cursor = at(50);
    assert_eq!(cursor.on_error(&Error::TopicMissing("t".into())), Step::Reconnect);
    cursor.gone();
    cursor.reconnected();
    assert_eq!(cursor.ask(), Ask::Offset(End::Earliest));
}

#[test]
fn a_topic_that_was_not_listed_once_is_verified_by_its_last_record() {
    let mut cursor = at(5);
    cursor.on_records(records(5..8, 0), 8);
    cursor.gone();
    cursor.reconnected();
    assert_eq!(cursor.ask(), Ask::Fetch(7, FetchSize::SingleBatch));
    cursor.on_records(records(7..8, 0), 8);
    assert_eq!(cursor.ask(), Ask::Fetch(8, FetchSize::Full));
}

#[test]
fn a_topic_that_is_missing_from_the_start_does_not_change_the_start() {
    let mut cursor = Cursor::new(Start::Latest, ConsumerMetrics::default());
    cursor.gone();
    assert_eq!(cursor.ask(), Ask::Offset(End::Latest));
}

#[test]
fn another_log_under_the_same_name_is_noticed_after_a_reconnect() {
    let mut cursor = at(5);
    cursor.on_records(records(5..8, 0), 8);
    cursor.reconnected();
    assert_eq!(cursor.ask(), Ask::Fetch(7, FetchSize::SingleBatch));
    assert_eq!(cursor.on_records(records(6..20, 1000), 20), Step::Again);
    assert_eq!(cursor.ask(), Ask::Offset(End::Earliest));
    cursor.on_offset(0);
    assert_eq!(cursor.ask(), Ask::Fetch(0, FetchSize::Full));
}

#[test]
fn the_same_log_goes_on_after_a_reconnect() {
    for answer in [Some(records(6..8, 0)), Some(Vec::new()), None] {
        let mut cursor = at(5);
        cursor.on_records(records(5..8, 0), 8);
        cursor.reconnected();
        let step = match answer {
            Some(records) => cursor.on_records(records, 8),
            None => cursor.on_error(&Error::OutOfRange),
        };
        assert_eq!(step, Step::Again);
        assert_eq!(cursor.ask(), Ask::Fetch(8, FetchSize::Full));
    }
}

#[test]
fn a_log_that_looks_shorter_is_verified() {
    let mut cursor = at(5);
    cursor.on_records(records(5..8, 0), 20);
    assert_eq!(cursor.on_records(Vec::new(), 8), Step::Again);
    assert_eq!(cursor.ask(), Ask::Fetch(7, FetchSize::SingleBatch));
}

#[test]
fn other_failures_ask_for_a_new_connection_and_move_nothing() {
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
