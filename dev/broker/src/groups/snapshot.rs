//! The input of the group coordinator at one moment: the time, the topics and the settings.

use std::collections::BTreeMap;

use tokio::time::Instant;
use uuid::Uuid;

use crate::config::Config;

/// A topic, as far as assignments depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicMetadata {
    pub(crate) id: Uuid,
    /// The number of partitions.
    pub(crate) partitions: i32,
}

/// Topics by name.
pub(crate) type TopicMetadataMap = BTreeMap<String, TopicMetadata>;

/// The cluster at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot<'a> {
    pub(crate) now: Instant,
    /// All topics.
    pub(crate) topics: TopicMetadataMap,
    pub(crate) config: &'a Config,
}
