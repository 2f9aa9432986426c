//! Caches which partitions topics have, and limits the rate of metadata requests: any client can name an unknown partition in
//! every request.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use super::Rejected;

/// Topics that are remembered; any client can name any number.
const MAX_TOPICS: usize = 1024;

/// How long a metadata response about a topic, or a failure about any, decides about partitions that are not listed.
pub(super) const METADATA_MAX_AGE: Duration = Duration::from_secs(1);

/// The partitions of the last metadata responses. A listed one counts as existing until the next response about its topic: a
/// topic that is deleted meanwhile fails in its producer.
#[derive(Debug, Default)]
pub(super) struct MetadataCache {
    topics: HashMap<String, Listed>,
    last_failure: Option<Failure>,
}

/// What a topic has; no partitions if it does not exist.
#[derive(Debug)]
struct Listed {
    at: Instant,
    partitions: BTreeSet<i32>,
}

#[derive(Debug, Clone, Copy)]
struct Failure {
    at: Instant,
    /// Within the short time limit of foreign topics, which says nothing about a longer one.
    was_foreign: bool,
}

// === impl MetadataCache ===

impl MetadataCache {
    /// Whether a topic has a partition; `None` if its metadata has to be requested first.
    pub(super) fn lookup(&self, topic: &str, partition: i32, is_foreign: bool) -> Option<Result<(), Rejected>> {
        if self.check(topic, partition).is_ok() {
            return Some(Ok(()));
        }
        let is_fresh = |at: &Instant| at.elapsed() < METADATA_MAX_AGE;
        if self.topics.get(topic).is_some_and(|listed| is_fresh(&listed.at)) {
            return Some(Err(Rejected::UnknownPartition));
        }
        let failure = self.last_failure.filter(|failure| is_fresh(&failure.at))?;
        (is_foreign || !failure.was_foreign).then_some(Err(Rejected::NoMetadata))
    }

    /// Whether the last response about a topic lists a partition, however old it is.
    pub(super) fn check(&self, topic: &str, partition: i32) -> Result<(), Rejected> {
        let listed = self.topics.get(topic);
        let is_listed = listed.is_some_and(|listed| listed.partitions.contains(&partition));
        is_listed.then_some(()).ok_or(Rejected::UnknownPartition)
    }

    /// The cluster has answered about a topic.
    pub(super) fn update(&mut self, topic: &str, partitions: BTreeSet<i32>) {
        if self.topics.len() >= MAX_TOPICS {
            // They are asked for again.
            self.topics.clear();
        }
        let at = Instant::now();
        self.topics.insert(topic.to_owned(), Listed { at, partitions });
        self.last_failure = None;
    }

    /// A topic no longer has these partitions.
    pub(super) fn remove(&mut self, topic: &str, partitions: &BTreeSet<i32>) {
        if let Some(listed) = self.topics.get_mut(topic) {
            listed.partitions.retain(|partition| !partitions.contains(partition));
        }
    }

    /// The request has failed.
    pub(super) fn fail(&mut self, is_foreign: bool) {
        self.last_failure = Some(Failure {
            at: Instant::now(),
            was_foreign: is_foreign,
        });
    }
}
