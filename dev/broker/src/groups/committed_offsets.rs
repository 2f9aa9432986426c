//! The committed offsets of a group.

use std::collections::BTreeMap;

/// The longest metadata of a commit, Kafka's `offset.metadata.max.bytes`.
pub(crate) const MAX_METADATA_BYTES: usize = 4096;

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OffsetAndMetadata {
    /// The next offset to read.
    pub(crate) offset: i64,
    /// The leader epoch of the last consumed record; -1 if the client did not send it (KIP-320).
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
}

/// The committed offsets by topic and partition.
#[derive(Debug, Default)]
pub(crate) struct CommittedOffsets {
    by_topic: BTreeMap<String, BTreeMap<i32, OffsetAndMetadata>>,
}

// === impl CommittedOffsets ===

impl CommittedOffsets {
    pub(crate) fn commit(&mut self, topic: String, partition: i32, committed: OffsetAndMetadata) {
        self.by_topic.entry(topic).or_default().insert(partition, committed);
    }

    pub(crate) fn get(&self, topic: &str, partition: i32) -> Option<&OffsetAndMetadata> {
        self.by_topic.get(topic)?.get(&partition)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &BTreeMap<i32, OffsetAndMetadata>)> {
        self.by_topic.iter()
    }

    pub(crate) fn delete(&mut self, topic: &str, partition: i32) {
        if let Some(partitions) = self.by_topic.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                self.by_topic.remove(topic);
            }
        }
    }

    pub(crate) fn delete_topic(&mut self, topic: &str) {
        self.by_topic.remove(topic);
    }
}
