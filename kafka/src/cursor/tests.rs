use super::*;
use crate::record_batch::{RecordBatches, TransactionEnd, testing::TestBatch};

/// No offsets.
const NONE: [i64; 0] = [];

fn cursor(start: Start) -> Cursor {
    Cursor::new(start, WhenHeldFull::Wait, ConsumerMetrics::default())
}

/// A cursor at `position`, which is the end of the log.
fn at(position: i64) -> Cursor {
    let mut cursor = cursor(Start::Latest);
    cursor.on_offset(position);
    cursor
}

fn answer(batches: &[TestBatch], high_watermark: i64) -> Fetched {
    let bytes: Vec<_> = batches.iter().flat_map(TestBatch::bytes).collect();
    Fetched {
        batches: RecordBatches::new(bytes.into()),
        high_watermark,
    }
}

/// The offsets that the answer delivers.
fn delivered(cursor: &mut Cursor, batches: &[TestBatch], high_watermark: i64) -> Vec<i64> {
    let records = cursor.on_fetched(answer(batches, high_watermark));
    records.iter().map(ConsumedRecord::offset).collect()
}

fn batch(offsets: std::ops::Range<i64>) -> TestBatch {
    TestBatch::new(offsets, 0)
}

fn full_fetch(offset: i64) -> Request {
    Request::Fetch(offset, FetchSize::Full, Isolation::ReadUncommitted)
}

fn single_batch(offset: i64) -> Request {
    Request::Fetch(offset, FetchSize::SingleBatch, Isolation::ReadUncommitted)
}

#[test]
fn start_looks_up_its_end_of_the_log() {
    for (start, end) in [(Start::Latest, End::Latest), (Start::Earliest, End::Earliest)] {
        let mut cursor = cursor(start);
        assert!(!cursor.is_resolved());
        assert_eq!(cursor.request(), Request::Offset(end));
        cursor.on_offset(7);
        assert!(cursor.is_resolved());
        assert_eq!(cursor.request(), full_fetch(7));
    }
}

#[test]
fn position_moves_behind_delivered_records() {
    let mut cursor = at(5);
    assert_eq!(delivered(&mut cursor, &[batch(5..7), batch(7..8)], 8), [5, 6, 7]);
    assert_eq!(cursor.request(), full_fetch(8));
    assert_eq!(delivered(&mut cursor, &[], 8), NONE);
    assert_eq!(cursor.request(), full_fetch(8));
}

#[test]
fn fetch_from_the_middle_of_a_batch_delivers_its_end() {
    let mut cursor = at(6);
    assert_eq!(delivered(&mut cursor, &[batch(4..8)], 8), [6, 7]);
    assert_eq!(delivered(&mut cursor, &[batch(4..8)], 8), NONE, "it was read");
    assert_eq!(cursor.position(), 8);
}

#[test]
fn batch_that_cannot_be_decoded_is_skipped_alone() {
    for bad in [batch(7..9).corrupt(), batch(7..9).undecodable()] {
        let mut cursor = at(5);
        assert_eq!(
            delivered(&mut cursor, &[batch(5..7), bad.clone(), batch(9..10)], 10),
            [5, 6, 9]
        );
        // At the end of an answer.
        let mut cursor = at(5);
        assert_eq!(delivered(&mut cursor, &[batch(5..7), bad], 10), [5, 6]);
        assert_eq!(cursor.request(), full_fetch(9));
        assert!(cursor.metrics.skipped.get() > 0);
    }
}

#[test]
fn corrupt_batch_that_begins_before_the_position_makes_progress() {
    let mut cursor = at(8);
    for position in 9..12 {
        // Its end cannot be trusted either: the same bytes come again.
        let mut bytes = batch(4..12).bytes();
        bytes[24] = 0x7f;
        let fetched = Fetched {
            batches: RecordBatches::new(bytes.into()),
            high_watermark: 20,
        };
        assert_eq!(cursor.on_fetched(fetched), []);
        assert_eq!(cursor.position(), position);
    }
}

#[test]
fn batch_that_is_longer_than_the_answer_makes_progress() {
    let mut cursor = at(5);
    let mut bytes = batch(5..9).bytes();
    bytes.pop();
    let fetched = Fetched {
        batches: RecordBatches::new(bytes.into()),
        high_watermark: 20,
    };
    assert_eq!(cursor.on_fetched(fetched), []);
    assert_eq!((cursor.position(), cursor.metrics.skipped.get()), (6, 1));
}

#[tokio::test(start_paused = true)]
async fn nothing_but_unreadable_batches_is_a_problem_after_ten_seconds() {
    let mut cursor = at(0);
    let mut offset = 0;
    for _ in 0..10 {
        delivered(&mut cursor, &[batch(offset..offset + 1).undecodable()], offset + 1);
        assert_eq!(cursor.problem(), None);
        offset += 1;
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    delivered(&mut cursor, &[batch(offset..offset + 1).undecodable()], offset + 1);
    let problem = cursor.problem().unwrap();
    assert!(problem.contains("no batch could be decoded for 10s"), "{problem}");
    // It ends with a readable batch, and where there are no more of the others.
    tokio::time::advance(UNREADABLE_TIMEOUT).await;
    assert_eq!(cursor.problem(), None);
    delivered(&mut cursor, &[batch(11..12).undecodable()], 12);
    assert!(cursor.problem().is_some());
    delivered(&mut cursor, &[batch(12..13)], 13);
    assert_eq!(cursor.problem(), None);
}

#[test]
fn committed_records_are_delivered_by_the_control_batch() {
    let mut cursor = at(0);
    let begun = [batch(0..2).transactional(7), batch(2..4), batch(4..5).transactional(7)];
    assert_eq!(delivered(&mut cursor, &begun, 5), [2, 3], "others are not held up");
    assert_eq!((cursor.held_from(), cursor.position()), (Some(0), 5));
    let ended = [TestBatch::end(5, 7, TransactionEnd::Committed), batch(6..7)];
    assert_eq!(delivered(&mut cursor, &ended, 7), [0, 1, 4, 6]);
    assert_eq!((cursor.held_from(), cursor.position()), (None, 7));
}

#[test]
fn aborted_records_are_never_delivered() {
    let mut cursor = at(0);
    let log = [
        batch(0..2).transactional(7),
        TestBatch::end(2, 7, TransactionEnd::Aborted),
        batch(3..4).transactional(7),
        TestBatch::end(4, 7, TransactionEnd::Committed),
    ];
    assert_eq!(delivered(&mut cursor, &log, 5), [3]);
}

#[test]
fn start_inside_a_transaction_delivers_its_later_records() {
    // Records 0 and 1 were written before the start.
    let mut cursor = at(2);
    assert_eq!(delivered(&mut cursor, &[batch(0..4).transactional(7)], 4), NONE);
    assert_eq!(cursor.held_from(), Some(2), "its batch begins before the start");
    let ended = [TestBatch::end(4, 7, TransactionEnd::Committed)];
    assert_eq!(delivered(&mut cursor, &ended, 5), [2, 3]);
}

#[test]
fn control_batches_of_strangers_are_stepped_over() {
    let mut cursor = at(0);
    let log = [TestBatch::end(0, 9, TransactionEnd::Aborted), batch(1..2)];
    assert_eq!(delivered(&mut cursor, &log, 2), [1]);
}

#[test]
fn too_much_held_back_waits_for_the_transactions() {
    let mut cursor = at(0);
    delivered(
        &mut cursor,
        &[batch(0..1).transactional(7).with_values_of(MAX_HELD_BYTES)],
        1,
    );
    assert!(
        cursor.problem().unwrap().contains("open transactions"),
        "{:?}",
        cursor.problem()
    );
    let committed = Request::Fetch(1, FetchSize::Full, Isolation::ReadCommitted);
    assert_eq!(cursor.request(), committed);
    assert_eq!(cursor.metrics.stalls.get(), 1);
    assert_eq!(
        delivered(&mut cursor, &[TestBatch::end(1, 7, TransactionEnd::Committed)], 2),
        [0]
    );
    assert_eq!((cursor.problem(), cursor.request()), (None, full_fetch(2)));
}

#[test]
fn too_much_held_back_drops_the_oldest() {
    let mut cursor = Cursor::new(Start::Earliest, WhenHeldFull::DropOldest, ConsumerMetrics::default());
    cursor.on_offset(0);
    let half = MAX_HELD_BYTES / 2;
    let log: Vec<_> = (0..3)
        .map(|offset| batch(offset..offset + 1).transactional(7).with_values_of(half))
        .collect();
    delivered(&mut cursor, &log, 3);
    assert_eq!((cursor.problem(), cursor.request()), (None, full_fetch(3)));
    assert_eq!(cursor.metrics.lost.get(), 2);
    assert_eq!(
        delivered(&mut cursor, &[TestBatch::end(3, 7, TransactionEnd::Committed)], 4),
        [2]
    );
}

#[test]
fn deleted_records_are_counted_as_lost() {
    let mut cursor = at(5);
    assert_eq!(cursor.on_error(&Error::OutOfRange), Step::Deliver(Vec::new()));
    assert_eq!(cursor.request(), Request::Offset(End::Earliest));
    cursor.on_offset(9);
    assert_eq!(cursor.request(), full_fetch(9));
    assert_eq!(cursor.metrics.lost.get(), 4);
}

#[test]
fn shorter_log_is_read_from_the_beginning() {
    let mut cursor = at(50);
    cursor.on_error(&Error::OutOfRange);
    cursor.on_offset(0);
    assert_eq!(cursor.request(), full_fetch(0));
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
    delivered(&mut cursor, &[batch(5..8)], 8);
    cursor.on_topic_missing();
    cursor.on_connected();
    assert_eq!(cursor.request(), single_batch(7));
    assert_eq!(delivered(&mut cursor, &[batch(5..8)], 8), NONE);
    assert_eq!(cursor.request(), full_fetch(8));
}

#[test]
fn topic_missing_before_the_start_keeps_the_start() {
    let mut cursor = cursor(Start::Latest);
    cursor.on_topic_missing();
    assert_eq!(cursor.request(), Request::Offset(End::Latest));
}

#[test]
fn replaced_log_is_detected_after_a_reconnect() {
    let mut cursor = at(5);
    delivered(&mut cursor, &[batch(5..8), batch(8..9).transactional(7)], 9);
    cursor.on_connected();
    assert_eq!(delivered(&mut cursor, &[TestBatch::new(6..20, 1_000)], 20), NONE);
    assert_eq!(cursor.request(), Request::Offset(End::Earliest));
    cursor.on_offset(0);
    assert_eq!(cursor.request(), full_fetch(0));
    assert_eq!(cursor.held_from(), None, "what was held back is of the other log");
}

#[test]
fn same_log_continues_after_a_reconnect() {
    for answer in [Some(vec![batch(6..8)]), Some(Vec::new()), None] {
        let mut cursor = at(5);
        delivered(&mut cursor, &[batch(5..8)], 8);
        cursor.on_connected();
        match answer {
            Some(batches) => assert_eq!(delivered(&mut cursor, &batches, 8), NONE),
            None => assert_eq!(cursor.on_error(&Error::OutOfRange), Step::Deliver(Vec::new())),
        }
        assert_eq!(cursor.request(), full_fetch(8));
    }
}

#[test]
fn lower_high_watermark_is_verified() {
    let mut cursor = at(5);
    delivered(&mut cursor, &[batch(5..8)], 20);
    assert_eq!(delivered(&mut cursor, &[], 8), NONE);
    assert_eq!(cursor.request(), single_batch(7));
}

#[test]
fn other_errors_reconnect_and_keep_the_position() {
    let mut cursor = at(5);
    for error in [Error::NotLeader("kafka:9092".into()), Error::TopicMissing("t".into())] {
        assert_eq!(cursor.on_error(&error), Step::Reconnect);
        assert_eq!(cursor.position(), 5);
    }
}
