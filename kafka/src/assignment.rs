//! Where the partitions come from: a list, all there are, or a group.

use std::{collections::BTreeSet, time::Duration};

use tracing::warn;

use crate::{
    group::Group,
    membership::{Change, Identity},
    survey::Survey,
};

/// What decides which partitions this worker reads.
#[derive(Debug)]
pub enum Assignment {
    /// The settings.
    Static(Survey),
    /// Kafka's group coordinator.
    Group(Group),
}

// === impl Assignment ===

impl Assignment {
    /// Waits for the next change. Cancelling loses nothing.
    pub async fn next(&mut self) -> Change {
        match self {
            Self::Static(survey) => Change::Take(survey.next().await),
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
    pub fn identity(&self) -> Option<Identity> {
        match self {
            Self::Static(_) => None,
            Self::Group(group) => Some(group.identity()),
        }
    }

    /// A commit was refused in a way that leaves the membership in doubt.
    pub fn doubt(&self) {
        if let Self::Group(group) = self {
            group.doubt();
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
