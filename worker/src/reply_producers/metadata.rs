//! Caches which partitions the cluster lists, and limits the rate of metadata requests: any client can name an unknown
//! partition in every request.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use super::Rejected;

/// How long the last metadata response, or its failure, decides about partitions that are not listed.
pub(super) const METADATA_MAX_AGE: Duration = Duration::from_secs(1);

/// The partitions of the last metadata response. A listed one counts as existing until the next response: a
/// topic that is deleted meanwhile fails in its producer.
#[derive(Debug, Default)]
pub(super) struct MetadataCache {
    topics: BTreeMap<String, BTreeSet<i32>>,
    last_request: Option<LastRequest>,
}

#[derive(Debug, Clone, Copy)]
struct LastRequest {
    at: Instant,
    outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Answered,
    Failed,
    /// It failed within the short time limit of foreign topics, which says nothing about a longer one.
    FailedForForeignTopic,
}

// === impl MetadataCache ===

impl MetadataCache {
    /// Whether the cluster lists a partition; `None` if the metadata has to be requested first.
    pub(super) fn lookup(&self, topic: &str, partition: i32, is_foreign: bool) -> Option<Result<(), Rejected>> {
        if self.check(topic, partition).is_ok() {
            return Some(Ok(()));
        }
        let last_request = self.last_request?;
        if last_request.at.elapsed() >= METADATA_MAX_AGE {
            return None;
        }
        match last_request.outcome {
            Outcome::Answered => Some(Err(Rejected::UnknownPartition)),
            Outcome::FailedForForeignTopic if !is_foreign => None,
            Outcome::Failed | Outcome::FailedForForeignTopic => Some(Err(Rejected::NoMetadata)),
        }
    }

    /// Whether the last response lists a partition, however old it is.
    pub(super) fn check(&self, topic: &str, partition: i32) -> Result<(), Rejected> {
        let partitions = self.topics.get(topic);
        let is_listed = partitions.is_some_and(|partitions| partitions.contains(&partition));
        is_listed.then_some(()).ok_or(Rejected::UnknownPartition)
    }

    /// The cluster has answered.
    pub(super) fn update(&mut self, topics: BTreeMap<String, BTreeSet<i32>>) {
        self.topics = topics;
        self.set_outcome(Outcome::Answered);
    }

    /// The request has failed.
    pub(super) fn fail(&mut self, is_foreign: bool) {
        self.set_outcome(if is_foreign {
            Outcome::FailedForForeignTopic
        } else {
            Outcome::Failed
        });
    }

    fn set_outcome(&mut self, outcome: Outcome) {
        let at = Instant::now();
        self.last_request = Some(LastRequest { at, outcome });
    }
}
