//! Where the partitions come from: a list, all there are, or a group.

use std::{collections::BTreeSet, time::Duration};

use tracing::warn;

use crate::{
    group::Group,
    membership::{MemberEpoch, Rebalance},
    partition_discovery::PartitionDiscovery,
};

/// What decides which partitions this worker reads.
#[derive(Debug)]
pub enum Assignment {
    /// The settings.
    Static(PartitionDiscovery),
    /// Kafka's group coordinator.
    Group(Group),
}

// === impl Assignment ===

impl Assignment {
    /// Waits for the next change. Cancelling loses nothing.
    pub async fn next(&mut self) -> Rebalance {
        match self {
            Self::Static(discovery) => Rebalance::Assigned(discovery.next().await),
            Self::Group(group) => group.next().await,
        }
    }

    /// These are read no further, and what was read of them is committed.
    pub fn released(&self, partitions: &BTreeSet<i32>) {
        if let Self::Group(group) = self {
            group.released(partitions);
        }
    }

    /// Who commits; nobody in particular without a group.
    pub fn member_epoch(&self) -> Option<MemberEpoch> {
        match self {
            Self::Static(_) => None,
            Self::Group(group) => Some(group.member_epoch()),
        }
    }

    /// A commit was refused in a way that leaves the membership in revalidate.
    pub fn revalidate(&self) {
        if let Self::Group(group) = self {
            group.revalidate();
        }
    }

    /// Gives the partitions back.
    pub async fn leave(self, limit: Duration) {
        if let Self::Group(group) = self
            && !group.leave(limit).await
        {
            warn!("the group coordinator did not hear that this worker leaves");
        }
    }
}
