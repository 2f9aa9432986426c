//! Which partitions of a topic there are to work on, and which come later.

use std::{collections::BTreeSet, mem::take, sync::Arc, time::Duration};

use tokio::time::sleep;
use tracing::warn;

use super::{backoff::Backoff, cluster::Cluster, error::Chain};
use crate::config::Partitions;

/// How soon a new partition is noticed.
const INTERVAL: Duration = Duration::from_secs(10);

/// Finds the partitions of a topic.
#[derive(Debug)]
pub struct Survey {
    cluster: Arc<Cluster>,
    topic: String,
    wanted: Partitions,
    found: BTreeSet<i32>,
}

// === impl Survey ===

impl Survey {
    /// Looks for these partitions of `topic`.
    #[must_use]
    pub fn new(cluster: &Arc<Cluster>, topic: &str, wanted: Partitions) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            topic: topic.to_owned(),
            wanted,
            found: BTreeSet::new(),
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

    async fn new_ones(&self) -> BTreeSet<i32> {
        let mut backoff = Backoff::default();
        if !self.found.is_empty() {
            sleep(INTERVAL).await;
        }
        loop {
            let error = match self.cluster.partitions(&self.topic).await {
                Ok(partitions) => {
                    let new: BTreeSet<_> = partitions.difference(&self.found).copied().collect();
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
                warn!(topic = self.topic, error = %Chain(&error), "its partitions cannot be listed");
            }
            backoff.pause().await;
        }
    }
}
