//! Discovers the partitions of a topic, and those that are added later.
//!
//! The metadata loop is a task of its own: its caller selects over other events too, which must not cancel a request in
//! progress.

use std::{collections::BTreeSet, mem::take, panic::resume_unwind, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::sleep};
use tracing::warn;

use super::{backoff::Backoff, cluster::Cluster};
use shared::{config::Partitions, error_chain::ErrorChain};

/// How often the topic's metadata is requested to find new partitions.
const METADATA_INTERVAL: Duration = Duration::from_secs(10);

/// Returns each partition of a topic once.
#[derive(Debug)]
pub struct PartitionDiscovery {
    cluster: Arc<Cluster>,
    topic: String,
    wanted: Partitions,
    found: BTreeSet<i32>,
    /// At most one task, which is aborted when the discovery is dropped.
    task: JoinSet<BTreeSet<i32>>,
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

    /// Waits for partitions that it has not returned yet. Listed partitions are returned at once, whether they exist or not.
    /// Cancel safe.
    pub async fn next(&mut self) -> BTreeSet<i32> {
        let new = match &mut self.wanted {
            Partitions::Listed(listed) if listed.is_empty() => std::future::pending().await,
            Partitions::Listed(listed) => return take(listed),
            Partitions::All => self.discover().await,
        };
        self.found.extend(&new);
        new
    }

    async fn discover(&mut self) -> BTreeSet<i32> {
        if self.task.is_empty() {
            let (cluster, topic) = (Arc::clone(&self.cluster), self.topic.clone());
            self.task.spawn(find_new(cluster, topic, self.found.clone()));
        }
        match self.task.join_next().await {
            Some(Ok(new)) => new,
            Some(Err(error)) if error.is_panic() => resume_unwind(error.into_panic()),
            // Only the end of the runtime aborts the task.
            Some(Err(_)) | None => std::future::pending().await,
        }
    }
}

/// Requests metadata until the topic has partitions that are not in `found`.
async fn find_new(cluster: Arc<Cluster>, topic: String, found: BTreeSet<i32>) -> BTreeSet<i32> {
    let mut backoff = Backoff::default();
    if !found.is_empty() {
        sleep(METADATA_INTERVAL).await;
    }
    loop {
        let error = match cluster.partitions(&topic).await {
            Ok(partitions) => {
                let new: BTreeSet<_> = partitions.difference(&found).copied().collect();
                if !new.is_empty() {
                    return new;
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
