use super::*;

/// A batch of one producer with `count` offsets.
fn batch(producer_id: i64, base_offset: i64, count: i64) -> RecordBatch {
    RecordBatch::for_test(producer_id, base_offset, base_offset + count, &[0; 100])
}

fn bases(batches: VecDeque<RecordBatch>) -> Vec<i64> {
    batches.into_iter().map(|batch| batch.base_offset).collect()
}

fn holding(batches: &[(i64, i64)]) -> OpenTransactions {
    let mut open = OpenTransactions::default();
    batches
        .iter()
        .for_each(|&(producer_id, base_offset)| open.hold(&batch(producer_id, base_offset, 2)));
    open
}

#[test]
fn interleaved_transactions_are_decided_by_their_own_producers() {
    let mut open = holding(&[(1, 10), (2, 12), (1, 14)]);
    assert_eq!(open.first_offset(), Some(10));
    assert_eq!(bases(open.end(2, 16, TransactionEnd::Aborted)), [0; 0]);
    assert_eq!(bases(open.end(1, 17, TransactionEnd::Committed)), [10, 14]);
    assert_eq!((open.first_offset(), open.bytes()), (None, 0));
}

#[test]
fn committed_aborted_committed_by_one_producer() {
    let mut open = OpenTransactions::default();
    for (base_offset, end, delivered) in [
        (10, TransactionEnd::Committed, vec![10]),
        (13, TransactionEnd::Aborted, vec![]),
        (16, TransactionEnd::Committed, vec![16]),
    ] {
        open.hold(&batch(7, base_offset, 2));
        assert_eq!(bases(open.end(7, base_offset + 2, end)), delivered);
    }
    assert_eq!(open.bytes(), 0);
}

#[test]
fn a_control_batch_decides_only_what_is_below_it() {
    let mut open = holding(&[(1, 10), (1, 20)]);
    assert_eq!(bases(open.end(1, 15, TransactionEnd::Committed)), [10]);
    assert_eq!(open.first_offset(), Some(20));
}

#[test]
fn a_control_batch_without_held_batches_means_nothing() {
    let mut open = holding(&[(1, 10)]);
    assert_eq!(bases(open.end(9, 50, TransactionEnd::Committed)), [0; 0]);
    assert_eq!(open.first_offset(), Some(10));
}

#[test]
fn the_oldest_batch_is_dropped_first() {
    let mut open = holding(&[(2, 12), (1, 10), (2, 14)]);
    let each = open.bytes() / 3;
    assert_eq!(open.drop_oldest().map(|batch| batch.base_offset), Some(10));
    assert_eq!((open.first_offset(), open.bytes()), (Some(12), 2 * each));
    open.clear();
    assert!(open.drop_oldest().is_none());
    assert_eq!(open.bytes(), 0);
}
