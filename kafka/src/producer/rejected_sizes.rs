//! What the broker refused of one batch as too large, and the size limit for later batches that follows from it.

/// The parts of a batch that the broker refused as too large.
#[derive(Debug, Default)]
pub(super) struct RejectedSizes {
    /// Of each part of several records: its bytes, and those of its largest record.
    parts: Vec<(usize, usize)>,
    /// The bytes of the smallest record that was refused alone.
    smallest_alone: Option<usize>,
}

// === impl RejectedSizes ===

impl RejectedSizes {
    /// Adds a refused part by the bytes of its records.
    pub(super) fn add(&mut self, records: impl Iterator<Item = usize>) {
        let (mut count, mut total, mut largest) = (0, 0, 0);
        for bytes in records {
            count += 1;
            total += bytes;
            largest = largest.max(bytes);
        }
        if count > 1 {
            self.parts.push((total, largest));
        } else {
            self.smallest_alone = Some(self.smallest_alone.map_or(total, |smallest| smallest.min(total)));
        }
    }

    /// The size limit for batches: half of the smallest part that was refused. A part with a record that is refused alone
    /// does not count: one such record must not make the batches of all other requests small.
    pub(super) fn batch_bytes(&self) -> Option<usize> {
        let fits_alone = |largest: usize| self.smallest_alone.is_none_or(|smallest| largest < smallest);
        let parts = self.parts.iter().filter(|(_, largest)| fits_alone(*largest));
        parts.map(|(bytes, _)| bytes / 2).min()
    }
}
