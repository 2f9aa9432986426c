//! A partition of a topic, by name and number.

use std::{fmt, sync::Arc};

/// A partition of a topic. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The name of the topic.
    pub topic: Arc<str>,
    /// The number of the partition.
    pub partition: i32,
}

// === impl TopicPartition ===

impl TopicPartition {
    /// A partition of `topic`.
    #[must_use]
    pub fn new(topic: &Arc<str>, partition: i32) -> Self {
        Self {
            topic: Arc::clone(topic),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}
