//! What only a test does to a partition.

use std::ops::Range;

use super::{Partition, wake};
use crate::{batch::Batch, log::OutOfRange};

impl Partition {
    /// Makes another node the leader.
    pub(crate) fn lead(&self, node: i32) {
        let mut state = self.state.lock();
        if state.leader != node {
            state.leader = node;
            state.log.begin_epoch();
        }
        wake(state);
    }

    /// Cuts the log off at `offset`.
    pub(crate) fn truncate(&self, offset: i64) -> Result<(), OutOfRange> {
        let mut state = self.state.lock();
        state.log.truncate(offset)?;
        state.producers.truncate(offset);
        wake(state);
        Ok(())
    }

    /// Appends without asking for the leader or the producer.
    pub(crate) fn append_verbatim(&self, batch: Batch) -> i64 {
        let mut state = self.state.lock();
        let base = state.log.append(batch);
        wake(state);
        base
    }

    /// From the start to the end.
    pub(crate) fn offsets(&self) -> Range<i64> {
        let state = self.state.lock();
        state.log.start()..state.log.end()
    }
}
