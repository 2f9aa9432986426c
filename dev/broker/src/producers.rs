//! What idempotent producers have written to one partition (KIP-98), so that a batch sent twice is kept once.
//!
//! The rules are those of Kafka's `ProducerStateManager` and `ProducerAppendInfo`: a producer counts its records from 0 in
//! every epoch, and the last five batches are remembered because that many may be in flight.

use std::collections::{HashMap, VecDeque};

use kafka_protocol::error::ResponseError;

use crate::batch::Header;

/// Batches remembered per producer, Kafka's `NUM_BATCHES_TO_RETAIN`.
const REMEMBERED: usize = 5;
/// Producers remembered per partition; Kafka forgets them by time, a day after their last record.
const MAX_PRODUCERS: usize = 1000;

/// Where a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sequence {
    /// New: append it, and then call [`Producers::appended`].
    Next,
    /// It was appended before, at this offset.
    Duplicate(i64),
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    first: i32,
    last: i32,
    offset: i64,
}

#[derive(Debug)]
struct Producer {
    epoch: i16,
    recent: VecDeque<Sent>,
}

/// The idempotent producers of one partition.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    known: HashMap<i64, Producer>,
}

impl Producers {
    /// Places a batch by its producer, epoch and sequence.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_EPOCH` for an older incarnation, `OUT_OF_ORDER_SEQUENCE_NUMBER` for a gap.
    pub(crate) fn place(&self, batch: &Header) -> Result<Sequence, ResponseError> {
        if batch.producer_id < 0 {
            return Ok(Sequence::Next);
        }
        // Forgotten or never seen: Kafka too takes it as it comes.
        let Some(producer) = self.known.get(&batch.producer_id) else {
            return Ok(Sequence::Next);
        };
        if batch.producer_epoch < producer.epoch {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        let last = last_sequence(batch);
        let in_order = if batch.producer_epoch > producer.epoch {
            batch.base_sequence == 0
        } else {
            let same = |sent: &&Sent| sent.first == batch.base_sequence && sent.last == last;
            if let Some(sent) = producer.recent.iter().find(same) {
                return Ok(Sequence::Duplicate(sent.offset));
            }
            producer
                .recent
                .back()
                .is_none_or(|sent| after(sent.last, 1) == batch.base_sequence)
        };
        if in_order {
            Ok(Sequence::Next)
        } else {
            Err(ResponseError::OutOfOrderSequenceNumber)
        }
    }

    /// Remembers a batch that was appended at `offset`.
    pub(crate) fn appended(&mut self, batch: &Header, offset: i64) {
        if batch.producer_id < 0 {
            return;
        }
        if self.known.len() >= MAX_PRODUCERS && !self.known.contains_key(&batch.producer_id) {
            self.forget_oldest();
        }
        let fresh = || Producer {
            epoch: batch.producer_epoch,
            recent: VecDeque::new(),
        };
        let producer = self.known.entry(batch.producer_id).or_insert_with(fresh);
        if producer.epoch != batch.producer_epoch {
            *producer = fresh();
        }
        if producer.recent.len() == REMEMBERED {
            producer.recent.pop_front();
        }
        producer.recent.push_back(Sent {
            first: batch.base_sequence,
            last: last_sequence(batch),
            offset,
        });
    }

    /// Forgets the batches at or past `offset`, which are no longer in the log.
    #[cfg_attr(not(feature = "faults"), allow(dead_code, reason = "only a fault truncates a log"))]
    pub(crate) fn truncate(&mut self, offset: i64) {
        for producer in self.known.values_mut() {
            producer.recent.retain(|sent| sent.offset < offset);
        }
        self.known.retain(|_, producer| !producer.recent.is_empty());
    }

    fn forget_oldest(&mut self) {
        let newest = |producer: &Producer| producer.recent.back().map_or(-1, |sent| sent.offset);
        let oldest = self
            .known
            .iter()
            .min_by_key(|(_, producer)| newest(producer))
            .map(|(id, _)| *id);
        if let Some(id) = oldest {
            self.known.remove(&id);
        }
    }
}

fn last_sequence(batch: &Header) -> i32 {
    after(batch.base_sequence, batch.last_offset_delta)
}

/// Sequences wrap from the largest number to 0.
fn after(sequence: i32, steps: i32) -> i32 {
    sequence.wrapping_add(steps) & i32::MAX
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
    fn a_batch_sent_twice_is_kept_once() {
        let mut producers = Producers::default();
        for (sequence, offset) in [(0, 10), (3, 13), (6, 16), (9, 19), (12, 22)] {
            assert_eq!(producers.place(&batch(0, sequence, 3)), Ok(Sequence::Next));
            producers.appended(&batch(0, sequence, 3), offset);
        }
        assert_eq!(producers.place(&batch(0, 0, 3)), Ok(Sequence::Duplicate(10)));
        assert_eq!(producers.place(&batch(0, 12, 3)), Ok(Sequence::Duplicate(22)));
        producers.appended(&batch(0, 15, 3), 25);
        // Six batches ago: no longer remembered, and not next either.
        assert_eq!(
            producers.place(&batch(0, 0, 3)),
            Err(ResponseError::OutOfOrderSequenceNumber)
        );
    }

    #[test]
    fn gaps_and_old_epochs_are_refused() {
        let mut producers = Producers::default();
        producers.appended(&batch(1, 0, 1), 0);
        assert_eq!(
            producers.place(&batch(1, 2, 1)),
            Err(ResponseError::OutOfOrderSequenceNumber)
        );
        assert_eq!(
            producers.place(&batch(0, 1, 1)),
            Err(ResponseError::InvalidProducerEpoch)
        );
        assert_eq!(
            producers.place(&batch(2, 1, 1)),
            Err(ResponseError::OutOfOrderSequenceNumber)
        );
        assert_eq!(producers.place(&batch(2, 0, 1)), Ok(Sequence::Next));
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let mut producers = Producers::default();
        producers.appended(&batch(0, i32::MAX - 1, 2), 0);
        assert_eq!(producers.place(&batch(0, 0, 1)), Ok(Sequence::Next));
        let mut producers = Producers::default();
        producers.appended(&batch(0, i32::MAX, 2), 0);
        assert_eq!(producers.place(&batch(0, 1, 1)), Ok(Sequence::Next));
    }

    #[test]
    fn the_number_of_producers_is_bounded() {
        let mut producers = Producers::default();
        for id in 0..=i64::try_from(MAX_PRODUCERS).unwrap() {
            producers.appended(
                &Header {
                    producer_id: id,
                    ..batch(0, 0, 1)
                },
                id,
            );
        }
        assert_eq!(producers.known.len(), MAX_PRODUCERS);
        assert!(!producers.known.contains_key(&0));
    }
}
