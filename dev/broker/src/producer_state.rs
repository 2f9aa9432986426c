//! The idempotent producers of one partition (KIP-98), so that a duplicate batch is appended once.
//!
//! The rules are those of Kafka's `ProducerStateManager` and `ProducerAppendInfo`: sequences begin at 0 in every producer
//! epoch, and the last five batches are kept because that many may be in flight.

use std::collections::{HashMap, VecDeque};

use kafka_protocol::error::ResponseError;

use crate::batch::Header;

/// Batches kept for each producer, Kafka's `NUM_BATCHES_TO_RETAIN`.
const RETAINED_BATCHES: usize = 5;
/// Producers kept for each partition. Kafka expires them by time, a day after their last record.
const MAX_PRODUCERS: usize = 1000;

/// The verdict on the sequence of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SequenceCheck {
    /// Append the batch, then call [`ProducerStateManager::append`].
    InOrder,
    /// The batch was appended before, at this base offset.
    Duplicate(i64),
}

/// The idempotent producers of one partition.
#[derive(Debug, Default)]
pub(crate) struct ProducerStateManager {
    producers: HashMap<i64, ProducerStateEntry>,
}

#[derive(Debug)]
struct ProducerStateEntry {
    epoch: i16,
    batches: VecDeque<BatchMetadata>,
}

#[derive(Debug, Clone, Copy)]
struct BatchMetadata {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
}

// === impl ProducerStateManager ===

impl ProducerStateManager {
    /// Checks producer epoch and sequence of a batch.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_EPOCH` for an older epoch, `OUT_OF_ORDER_SEQUENCE_NUMBER` for a gap.
    pub(crate) fn check_sequence(&self, batch: &Header) -> Result<SequenceCheck, ResponseError> {
        if batch.producer_id < 0 {
            return Ok(SequenceCheck::InOrder);
        }
        // Kafka too accepts any sequence of an unknown producer: it may have expired.
        let Some(producer) = self.producers.get(&batch.producer_id) else {
            return Ok(SequenceCheck::InOrder);
        };
        if batch.producer_epoch < producer.epoch {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        let last = last_sequence(batch);
        let in_order = if batch.producer_epoch > producer.epoch {
            batch.base_sequence == 0
        } else {
            let is_same =
                |known: &&BatchMetadata| known.first_sequence == batch.base_sequence && known.last_sequence == last;
            if let Some(known) = producer.batches.iter().find(is_same) {
                return Ok(SequenceCheck::Duplicate(known.base_offset));
            }
            producer
                .batches
                .back()
                .is_none_or(|newest| add(newest.last_sequence, 1) == batch.base_sequence)
        };
        if in_order {
            Ok(SequenceCheck::InOrder)
        } else {
            Err(ResponseError::OutOfOrderSequenceNumber)
        }
    }

    /// Records a batch that was appended at `base_offset`.
    pub(crate) fn append(&mut self, batch: &Header, base_offset: i64) {
        if batch.producer_id < 0 {
            return;
        }
        if self.producers.len() >= MAX_PRODUCERS && !self.producers.contains_key(&batch.producer_id) {
            self.remove_oldest();
        }
        let new_entry = || ProducerStateEntry {
            epoch: batch.producer_epoch,
            batches: VecDeque::new(),
        };
        let producer = self.producers.entry(batch.producer_id).or_insert_with(new_entry);
        if producer.epoch != batch.producer_epoch {
            *producer = new_entry();
        }
        if producer.batches.len() == RETAINED_BATCHES {
            producer.batches.pop_front();
        }
        producer.batches.push_back(BatchMetadata {
            first_sequence: batch.base_sequence,
            last_sequence: last_sequence(batch),
            base_offset,
        });
    }

    /// Removes the batches at or beyond `offset`: the log was truncated there.
    pub(crate) fn truncate(&mut self, offset: i64) {
        for producer in self.producers.values_mut() {
            producer.batches.retain(|batch| batch.base_offset < offset);
        }
        self.producers.retain(|_, producer| !producer.batches.is_empty());
    }

    fn remove_oldest(&mut self) {
        let last_offset = |producer: &ProducerStateEntry| producer.batches.back().map_or(-1, |batch| batch.base_offset);
        let oldest = self
            .producers
            .iter()
            .min_by_key(|(_, producer)| last_offset(producer))
            .map(|(id, _)| *id);
        if let Some(id) = oldest {
            self.producers.remove(&id);
        }
    }
}

fn last_sequence(batch: &Header) -> i32 {
    add(batch.base_sequence, batch.last_offset_delta)
}

/// Sequences wrap from `i32::MAX` to 0.
fn add(sequence: i32, delta: i32) -> i32 {
    sequence.wrapping_add(delta) & i32::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(producer_epoch: i16, base_sequence: i32, count: i32) -> Header {
        Header {
            attributes: 0,
            last_offset_delta: count - 1,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: 7,
            producer_epoch,
            base_sequence,
        }
    }

    #[test]
    fn duplicate_batch_is_recognized() {
        let mut producers = ProducerStateManager::default();
        for (sequence, offset) in [(0, 10), (3, 13), (6, 16), (9, 19), (12, 22)] {
            assert_eq!(
                producers.check_sequence(&batch(0, sequence, 3)),
                Ok(SequenceCheck::InOrder)
            );
            producers.append(&batch(0, sequence, 3), offset);
        }
        assert_eq!(
            producers.check_sequence(&batch(0, 0, 3)),
            Ok(SequenceCheck::Duplicate(10))
        );
        assert_eq!(
            producers.check_sequence(&batch(0, 12, 3)),
            Ok(SequenceCheck::Duplicate(22))
        );
        producers.append(&batch(0, 15, 3), 25);
        // Six batches ago: not retained any more, and out of order.
        assert_eq!(
            producers.check_sequence(&batch(0, 0, 3)),
            Err(ResponseError::OutOfOrderSequenceNumber)
        );
    }

    #[test]
    fn sequence_gap_and_old_epoch_are_errors() {
        let mut producers = ProducerStateManager::default();
        producers.append(&batch(1, 0, 1), 0);
        assert_eq!(
            producers.check_sequence(&batch(1, 2, 1)),
            Err(ResponseError::OutOfOrderSequenceNumber)
        );
        assert_eq!(
            producers.check_sequence(&batch(0, 1, 1)),
            Err(ResponseError::InvalidProducerEpoch)
        );
        assert_eq!(
            producers.check_sequence(&batch(2, 1, 1)),
            Err(ResponseError::OutOfOrderSequenceNumber)
        );
        assert_eq!(producers.check_sequence(&batch(2, 0, 1)), Ok(SequenceCheck::InOrder));
    }

    #[test]
    fn sequence_wraps_to_zero() {
        let mut producers = ProducerStateManager::default();
        producers.append(&batch(0, i32::MAX - 1, 2), 0);
        assert_eq!(producers.check_sequence(&batch(0, 0, 1)), Ok(SequenceCheck::InOrder));
        let mut producers = ProducerStateManager::default();
        producers.append(&batch(0, i32::MAX, 2), 0);
        assert_eq!(producers.check_sequence(&batch(0, 1, 1)), Ok(SequenceCheck::InOrder));
    }

    #[test]
    fn producers_are_limited() {
        let mut producers = ProducerStateManager::default();
        for id in 0..=i64::try_from(MAX_PRODUCERS).unwrap() {
            producers.append(
                &Header {
                    producer_id: id,
                    ..batch(0, 0, 1)
                },
                id,
            );
        }
        assert_eq!(producers.producers.len(), MAX_PRODUCERS);
        assert!(!producers.producers.contains_key(&0));
    }
}
