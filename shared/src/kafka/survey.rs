//! Which partitions of a topic there are to work on, and which come later.

use std::{collections::BTreeSet, fmt, mem::take, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::sleep;
use tracing::warn;

use super::{backoff::Backoff, cluster::Cluster, error::Chain};
use crate::config::Partitions;

/// How soon a new partition is noticed.
const INTERVAL: Duration = Duration::from_secs(10);

/// Finds the partitions of a topic.
pub struct Survey {
    cluster: Arc<Cluster>,
    topic: String,
    wanted: Partitions,
    found: BTreeSet<i32>,
    /// The look that is under way: whoever waits for it may come and go.
    look: Option<BoxFuture<'static, BTreeSet<i32>>>,
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
            look: None,
        }
    }

    /// Waits for partitions that it has not given yet. Those that are named by number come at once, whether they exist
    /// or not. Cancelling loses nothing.
    pub async fn next(&mut self) -> BTreeSet<i32> {
        if let Partitions::Listed(listed) = &mut self.wanted {
            if listed.is_empty() {
                std::future::pending::<()>().await;
            }
            return take(listed);
        }
        let look = self.look.get_or_insert_with(|| {
            let (cluster, topic, found) = (Arc::clone(&self.cluster), self.topic.clone(), self.found.clone());
            look(cluster, topic, found).boxed()
        });
        let new = look.await;
        self.look = None;
        self.found.extend(&new);
        new
    }
}

impl fmt::Debug for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Survey")
            .field("topic", &self.topic)
            .field("found", &self.found)
            .finish_non_exhaustive()
    }
}

/// Looks until there are others than those found.
async fn look(cluster: Arc<Cluster>, topic: String, found: BTreeSet<i32>) -> BTreeSet<i32> {
    let mut backoff = Backoff::default();
    if !found.is_empty() {
        sleep(INTERVAL).await;
    }
    loop {
        match cluster.partitions(&topic).await {
            Ok(partitions) => {
                let new: BTreeSet<_> = partitions.difference(&found).copied().collect();
                if !new.is_empty() {
                    return new;
                }
                backoff.reset();
                sleep(INTERVAL).await;
            }
            Err(error) => {
                if !backoff.has_failed() {
                    warn!(topic, error = %Chain(&error), "its partitions cannot be listed");
                }
                backoff.pause().await;
            }
        }
    }
}
