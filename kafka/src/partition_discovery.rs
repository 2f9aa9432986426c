//! Which partitions of a topic there are to work on, and which come later.
//!
//! Whoever waits for them waits for other things beside: the search is a task of its own, which goes on meanwhile.

use std::{collections::BTreeSet, mem::take, panic::resume_unwind, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::sleep};
use tracing::warn;

use shared::error_chain::ErrorChain;

use super::{backoff::Backoff, cluster::Cluster};
use shared::config::Partitions;

/// How soon a new partition is noticed.
const INTERVAL: Duration = Duration::from_secs(10);

/// Finds the partitions of a topic.
#[derive(Debug)]
pub struct PartitionDiscovery {
    cluster: Arc<Cluster>,
    topic: String,
    wanted: Partitions,
    found: BTreeSet<i32>,
    /// One at most; it ends with the discovery.
    search: JoinSet<BTreeSet<i32>>,
}

// === impl PartitionDiscovery ===

impl PartitionDiscovery {
    /// Looks for these partitions of `topic`.
    #[must_use]
    pub fn new(cluster: &Arc<Cluster>, topic: &str, wanted: Partitions) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            topic: topic.to_owned(),
            wanted,
            found: BTreeSet::new(),
            search: JoinSet::new(),
        }
    }

    /// Waits for partitions that it has not given yet. Those that are named by number come at once, whether they exist
    /// or not. Cancelling loses nothing.
    pub async fn next(&mut self) -> BTreeSet<i32> {
        let new = match &mut self.wanted {
            Partitions::Listed(listed) if listed.is_empty() => std::future::pending().await,
            Partitions::Listed(listed) => return take(listed),
            Partitions::All => self.new_ones().await,
        };
        self.found.extend(&new);
        new
    }

    async fn new_ones(&mut self) -> BTreeSet<i32> {
        if self.search.is_empty() {
            let (cluster, topic) = (Arc::clone(&self.cluster), self.topic.clone());
            self.search.spawn(search(cluster, topic, self.found.clone()));
        }
        match self.search.join_next().await {
            Some(Ok(new)) => new,
            Some(Err(error)) if error.is_panic() => resume_unwind(error.into_panic()),
            // Nobody aborts it but the end of the runtime.
            Some(Err(_)) | None => std::future::pending().await,
        }
    }
}

async fn search(cluster: Arc<Cluster>, topic: String, found: BTreeSet<i32>) -> BTreeSet<i32> {
    let mut backoff = Backoff::default();
    if !found.is_empty() {
        sleep(INTERVAL).await;
    }
    loop {
        let error = match cluster.partitions(&topic).await {
            Ok(partitions) => {
                let new: BTreeSet<_> = partitions.difference(&found).copied().collect();
                if !new.is_empty() {
                    return new;
                }
                backoff.reset();
                sleep(INTERVAL).await;
                continue;
            }
            Err(error) => error,
        };
        if !backoff.has_failed() {
            warn!(topic, error = %ErrorChain(&error), "its partitions cannot be listed");
        }
        backoff.pause().await;
    }
}
