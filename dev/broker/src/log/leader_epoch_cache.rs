//! The start offset of each leader epoch (KIP-101), by which clients detect a truncated log. Kafka's
//! `LeaderEpochFileCache`.

/// The leader epochs of a log. Never empty; epochs and offsets both ascend.
#[derive(Debug)]
pub(crate) struct LeaderEpochCache {
    current: i32,
    /// (epoch, start offset)
    entries: Vec<(i32, i64)>,
}

impl LeaderEpochCache {
    /// A log that begins in `epoch`.
    pub(crate) fn new(epoch: i32) -> Self {
        LeaderEpochCache {
            current: epoch,
            entries: vec![(epoch, 0)],
        }
    }

    /// The epoch of the next batch.
    pub(crate) fn current(&self) -> i32 {
        self.current
    }

    /// Begins the next epoch at `offset`, and removes the epochs that begin there or later.
    pub(crate) fn begin(&mut self, offset: i64) {
        self.current = self.current.saturating_add(1);
        self.entries.retain(|(_, start)| *start < offset);
        self.entries.push((self.current, offset));
    }

    /// The epoch of an offset; -1 if unknown.
    pub(crate) fn epoch_for_offset(&self, offset: i64) -> i32 {
        self.entries
            .iter()
            .rev()
            .find(|(_, start)| *start <= offset)
            .map_or(-1, |(epoch, _)| *epoch)
    }

    /// The largest known epoch up to `epoch` and its end offset, as `LeaderEpochFileCache.endOffsetFor`.
    pub(crate) fn end_offset_for(&self, epoch: i32, log_end_offset: i64) -> (i32, i64) {
        if epoch == self.current {
            return (epoch, log_end_offset);
        }
        let Some((_, end)) = self.entries.iter().find(|(known, _)| *known > epoch) else {
            return (-1, -1);
        };
        let floor = self.entries.iter().rev().find(|(known, _)| *known <= epoch);
        (floor.map_or(epoch, |(known, _)| *known), *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoch_ends_where_the_next_begins() {
        let mut epochs = LeaderEpochCache::new(0);
        epochs.begin(10);
        epochs.begin(20);
        for (epoch, end) in [(0, (0, 10)), (1, (1, 20)), (2, (2, 25)), (3, (-1, -1)), (-1, (-1, 0))] {
            assert_eq!(epochs.end_offset_for(epoch, 25), end);
        }
        assert_eq!([9, 10, 25].map(|offset| epochs.epoch_for_offset(offset)), [0, 1, 2]);
    }

    #[test]
    fn epoch_without_records_is_removed() {
        let mut epochs = LeaderEpochCache::new(0);
        epochs.begin(10);
        epochs.begin(10);
        assert_eq!(epochs.end_offset_for(1, 12), (0, 10));
        epochs.begin(5);
        assert_eq!(epochs.current(), 3);
        assert_eq!([4, 5].map(|offset| epochs.epoch_for_offset(offset)), [0, 3]);
    }
}
