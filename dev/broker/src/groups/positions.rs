//! The positions a group has committed.

use std::collections::BTreeMap;

/// The longest text beside a position, Kafka's `offset.metadata.max.bytes`.
pub(crate) const MAX_METADATA_BYTES: usize = 4096;

/// One position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    /// The next offset to read.
    pub(crate) offset: i64,
    /// The leader epoch of the record before, -1 if the committer did not say (KIP-320).
    pub(crate) leader_epoch: i32,
    /// Whatever the committer wanted to keep beside it.
    pub(crate) metadata: String,
}

/// The positions of a group, by topic and partition.
#[derive(Debug, Default)]
pub(crate) struct Positions {
    by_topic: BTreeMap<String, BTreeMap<i32, Committed>>,
}

impl Positions {
    /// Replaces a position.
    pub(crate) fn commit(&mut self, topic: String, partition: i32, committed: Committed) {
        self.by_topic.entry(topic).or_default().insert(partition, committed);
    }

    /// The position in a partition, if there is one.
    pub(crate) fn of(&self, topic: &str, partition: i32) -> Option<&Committed> {
        self.by_topic.get(topic)?.get(&partition)
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&String, &BTreeMap<i32, Committed>)> {
        self.by_topic.iter()
    }

    /// Removes the position in a partition.
    pub(crate) fn forget(&mut self, topic: &str, partition: i32) {
        if let Some(partitions) = self.by_topic.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                self.by_topic.remove(topic);
            }
        }
    }

    /// Removes the positions in a topic.
    pub(crate) fn forget_topic(&mut self, topic: &str) {
        self.by_topic.remove(topic);
    }
}
