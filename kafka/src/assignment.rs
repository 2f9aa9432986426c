//! Which partitions a worker reads: those of a static list, all of its topics, or those that a group assigns.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::select_all};
use tracing::warn;

use crate::{
    group::Group,
    membership::{MemberEpoch, Rebalance},
    partition_discovery::PartitionDiscovery,
    topic_partition::TopicPartition,
};

/// The source of a worker's partitions.
#[derive(Debug)]
pub enum Assignment {
    /// The settings: a discovery for each topic, at least one. Only partitions that a topic no longer has are revoked.
    Static(Vec<PartitionDiscovery>),
    /// The coordinator of a group.
    Group(Group),
}

// === impl Assignment ===

impl Assignment {
    /// Waits for the next rebalance. Cancel safe.
    pub async fn next(&mut self) -> Rebalance {
        match self {
            Self::Static(discoveries) => {
                let next = discoveries.iter_mut().map(|discovery| {
                    let topic: Arc<str> = discovery.topic().into();
                    discovery.next().map(move |change| change.in_topic(&topic)).boxed()
                });
                select_all(next).await.0
            }
            Self::Group(group) => group.next().await,
        }
    }

    /// Reports revoked partitions as released: they are read no further, and their offsets are committed.
    pub fn released(&self, partitions: &BTreeSet<TopicPartition>) {
        if let Self::Group(group) = self {
            group.released(partitions);
        }
    }

    /// The member that commits; `None` without a group.
    pub fn member_epoch(&self) -> Option<MemberEpoch> {
        match self {
            Self::Static(_) => None,
            Self::Group(group) => Some(group.member_epoch()),
        }
    }

    /// Checks the membership with a heartbeat, after a commit failed because of the member.
    pub fn revalidate(&self) {
        if let Self::Group(group) = self {
            group.revalidate();
        }
    }

    /// Leaves the group, within `limit`.
    pub async fn leave(self, limit: Duration) {
        if let Self::Group(group) = self
            && !group.leave(limit).await
        {
            warn!("the group coordinator did not hear that this worker leaves");
        }
    }
}
