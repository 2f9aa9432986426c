//! Which leader epoch wrote which offsets (KIP-101): how a client learns that a log was cut behind its back.

/// The epochs of a log, each with the offset it began at; never empty, both columns ascending.
#[derive(Debug)]
pub(crate) struct Epochs {
    current: i32,
    began: Vec<(i32, i64)>,
}

impl Epochs {
    /// A log that begins in `epoch`.
    pub(crate) fn new(epoch: i32) -> Self {
        Epochs {
            current: epoch,
            began: vec![(epoch, 0)],
        }
    }

    /// The epoch of what is written now.
    pub(crate) fn current(&self) -> i32 {
        self.current
    }

    /// Begins the next epoch at `offset`. One in which nothing was written leaves no trace.
    pub(crate) fn begin(&mut self, offset: i64) {
        self.current = self.current.saturating_add(1);
        self.began.retain(|(_, start)| *start < offset);
        self.began.push((self.current, offset));
    }

    /// Forgets what was written from `offset` on and begins the next epoch there.
    pub(crate) fn truncate(&mut self, offset: i64) {
        self.begin(offset);
    }

    /// The epoch an offset was written in; -1 if the log does not know.
    pub(crate) fn at(&self, offset: i64) -> i32 {
        self.began
            .iter()
            .rev()
            .find(|(_, start)| *start <= offset)
            .map_or(-1, |(epoch, _)| *epoch)
    }

    /// The largest known epoch up to `epoch` and where it ends, as `LeaderEpochFileCache.endOffsetFor` answers.
    pub(crate) fn end_of(&self, epoch: i32, log_end: i64) -> (i32, i64) {
        if epoch == self.current {
            return (epoch, log_end);
        }
        let Some((_, end)) = self.began.iter().find(|(known, _)| *known > epoch) else {
            return (-1, -1);
        };
        let floor = self.began.iter().rev().find(|(known, _)| *known <= epoch);
        (floor.map_or(epoch, |(known, _)| *known), *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        let mut epochs = Epochs::new(0);
        epochs.begin(10);
        epochs.begin(20);
        assert_eq!(epochs.end_of(0, 25), (0, 10));
        assert_eq!(epochs.end_of(1, 25), (1, 20));
        assert_eq!(epochs.end_of(2, 25), (2, 25));
        assert_eq!(epochs.end_of(3, 25), (-1, -1));
        assert_eq!(epochs.end_of(-1, 25), (-1, 0));
        assert_eq!((epochs.at(9), epochs.at(10), epochs.at(25)), (0, 1, 2));
    }

    #[test]
    fn an_epoch_without_records_leaves_no_trace() {
        let mut epochs = Epochs::new(0);
        epochs.begin(10);
        epochs.begin(10);
        assert_eq!(epochs.end_of(1, 12), (0, 10));
        epochs.truncate(5);
        assert_eq!((epochs.current(), epochs.at(4), epochs.at(5)), (3, 0, 3));
    }
}
