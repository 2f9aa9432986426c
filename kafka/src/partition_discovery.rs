//! Discovers the partitions of a topic, those that are added later, and those that it no longer has.
//!
//! - A topic that was deleted and created again may have fewer partitions. While a topic is missing, its partitions are kept:
//!   how many a new one will have is not known yet.
//! - The metadata loop is a task of its own: its caller selects over other events too, which must not cancel a request in
//!   progress.

use std::{collections::BTreeSet, mem::take, panic::resume_unwind, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::sleep};
use tracing::{info, warn};

use super::{backoff::Backoff, cluster::Cluster, membership::Rebalance};
use shared::{config::Partitions, error_chain::ErrorChain};

/// How often the topic's metadata is requested to find changes.
const METADATA_INTERVAL: Duration = Duration::from_secs(10);

/// Returns each change of the partitions of a topic once.
#[derive(Debug)]
pub struct PartitionDiscovery {
    cluster: Arc<Cluster>,
    topic: String,
    wanted: Partitions,
    /// Those that were returned as assigned, and not as revoked since.
    found: BTreeSet<i32>,
    /// At most one task, which is aborted when the discovery is dropped.
    task: JoinSet<Rebalance<i32>>,
}

// === impl PartitionDiscovery ===

impl PartitionDiscovery {
    /// A discovery of the wanted partitions of `topic`.
    #[must_use]
    pub fn new(cluster: &Arc<Cluster>, topic: &str, wanted: Partitions) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            topic: topic.to_owned(),
            wanted,
            found: BTreeSet::new(),
            task: JoinSet::new(),
        }
    }

    /// The topic.
    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// Waits until `topic`, which has had `partition`, no longer has it. A missing topic still counts as having it.
    pub async fn removal(cluster: &Arc<Cluster>, topic: &str, partition: i32) {
        let mut discovery = Self::new(cluster, topic, Partitions::All);
        discovery.found.insert(partition);
        while discovery.found.contains(&partition) {
            discovery.next().await;
        }
    }

    /// Waits for the next change: partitions to use, or partitions that the topic no longer has. Listed partitions are
    /// assigned at once and never revoked, whether they exist or not. Cancel safe.
    pub async fn next(&mut self) -> Rebalance<i32> {
        let change = match &mut self.wanted {
            Partitions::Listed(listed) if listed.is_empty() => std::future::pending().await,
            Partitions::Listed(listed) => Rebalance::Assigned(take(listed)),
            Partitions::All => self.discover().await,
        };
        match &change {
            Rebalance::Assigned(added) => self.found.extend(added),
            Rebalance::Revoked(removed) => self.found.retain(|partition| !removed.contains(partition)),
            Rebalance::Lost => self.found.clear(),
        }
        change
    }

    async fn discover(&mut self) -> Rebalance<i32> {
        if self.task.is_empty() {
            let (cluster, topic) = (Arc::clone(&self.cluster), self.topic.clone());
            self.task.spawn(find_change(cluster, topic, self.found.clone()));
        }
        match self.task.join_next().await {
            Some(Ok(change)) => change,
            Some(Err(error)) if error.is_panic() => resume_unwind(error.into_panic()),
            // Only the end of the runtime aborts the task.
            Some(Err(_)) | None => std::future::pending().await,
        }
    }
}

/// Requests metadata until the partitions of the topic are not those in `found`.
async fn find_change(cluster: Arc<Cluster>, topic: String, found: BTreeSet<i32>) -> Rebalance<i32> {
    let mut backoff = Backoff::default();
    if !found.is_empty() {
        sleep(METADATA_INTERVAL).await;
    }
    loop {
        let error = match cluster.partitions(&topic).await {
            Ok(partitions) => {
                if let Some(change) = change(&found, &partitions) {
                    if let Rebalance::Revoked(partitions) = &change {
                        info!(topic, ?partitions, "the topic no longer has these partitions");
                    }
                    return change;
                }
                backoff.reset();
                sleep(METADATA_INTERVAL).await;
                continue;
            }
            Err(error) => error,
        };
        if !backoff.has_failed() {
            warn!(topic, error = %ErrorChain(&error), "cannot list the partitions of the topic");
        }
        backoff.pause().await;
    }
}

/// The change from the partitions that were found to those that the topic has. Removed ones come first.
fn change(found: &BTreeSet<i32>, partitions: &BTreeSet<i32>) -> Option<Rebalance<i32>> {
    let removed: BTreeSet<i32> = found.difference(partitions).copied().collect();
    if !removed.is_empty() {
        return Some(Rebalance::Revoked(removed));
    }
    let added: BTreeSet<i32> = partitions.difference(found).copied().collect();
    (!added.is_empty()).then_some(Rebalance::Assigned(added))
}

#[cfg(test)]
mod tests;
