//! Committed offsets: where the partitions are begun, and how far they are done.
//!
//! With each position goes a note of how many partitions the topic had when this group read it for the first time: a
//! partition without position that is not among them has come since, and nobody has read any of it yet.

use std::collections::{BTreeMap, BTreeSet};

use shared::{config::StartFrom, error_chain::ErrorChain};
use tracing::{info, warn};

use crate::{
    coordinator::{Committed, Coordinator, Error, Position},
    cursor::Start,
    membership::MemberEpoch,
    metrics::CommitMetrics,
};

/// What the note begins with.
const NOTE: &str = "first-partitions=";

/// The positions of a group in one topic.
#[derive(Debug)]
pub struct CommittedOffsets {
    coordinator: Coordinator,
    topic: String,
    start_from: StartFrom,
    /// How many partitions the topic had at first; `None` before Kafka was asked.
    first: Option<i32>,
    /// There have been positions: if there are none, the topic is another of the same name.
    known: bool,
    /// A refusal was logged, and none is until a commit succeeds.
    complained: bool,
    metrics: CommitMetrics,
}

// === impl CommittedOffsets ===

impl CommittedOffsets {
    /// Of the group of `coordinator` in `topic`.
    pub fn new(coordinator: Coordinator, topic: &str, start_from: StartFrom, metrics: CommitMetrics) -> Self {
        Self {
            coordinator,
            topic: topic.to_owned(),
            start_from,
            first: None,
            known: false,
            complained: false,
            metrics,
        }
    }

    /// Where to begin in `partitions`, of `count` that the topic has. `member` is `None` for a worker without group, which
    /// begins where its setting says; in a group the position is the group's, and the setting is for where there is none.
    ///
    /// # Errors
    /// When Kafka cannot say. It is worth another attempt.
    pub async fn starts(
        &mut self,
        member: Option<&MemberEpoch>,
        partitions: &BTreeSet<i32>,
        count: i32,
    ) -> Result<BTreeMap<i32, Start>, Error> {
        let all: Vec<i32> = (0..count)
            .chain(partitions.iter().copied().filter(|it| *it >= count))
            .collect();
        let committed = match self.coordinator.committed(member, &self.topic, &all).await {
            Ok(committed) => committed,
            Err(error @ (Error::Refused { .. } | Error::TooOld(_))) if member.is_none() => {
                self.complain(&error);
                BTreeMap::new()
            }
            Err(error) => return Err(error),
        };
        let noted = committed
            .values()
            .filter_map(|it| it.metadata.strip_prefix(NOTE)?.parse().ok());
        let first = *self.first.get_or_insert(noted.min().unwrap_or(count));
        let renewed = self.known && committed.is_empty();
        self.known |= !committed.is_empty();
        if renewed {
            info!(
                "the positions are gone, and so is the topic that they were in; its successor is read from the beginning"
            );
            return Ok(partitions.iter().map(|it| (*it, Start::Earliest)).collect());
        }
        let start = |partition: &i32| (*partition, self.start(member.is_some(), *partition, first, &committed));
        Ok(partitions.iter().map(start).collect())
    }

    fn start(&self, in_group: bool, partition: i32, first: i32, committed: &BTreeMap<i32, Committed>) -> Start {
        match (self.start_from, committed.get(&partition)) {
            (StartFrom::Earliest, _) if !in_group => Start::Earliest,
            (StartFrom::Latest, _) if !in_group && partition < first => Start::Latest,
            (_, Some(committed)) => Start::At(committed.offset),
            (_, None) if partition >= first => Start::Earliest,
            (StartFrom::Resume | StartFrom::Latest, None) => Start::Latest,
            (StartFrom::Earliest, None) => Start::Earliest,
        }
    }

    /// Commits positions (partition and offset). Gives the partitions whose position Kafka has now; a refusal is counted,
    /// and the first in a row is logged.
    ///
    /// # Errors
    /// [`Error::Stale`] and [`Error::Fenced`] are for the group to know; any other is worth another attempt.
    pub async fn commit(
        &mut self,
        member: Option<&MemberEpoch>,
        positions: &[(i32, i64)],
    ) -> Result<BTreeSet<i32>, Error> {
        let note = self.first.map(|first| format!("{NOTE}{first}")).unwrap_or_default();
        let request: Vec<_> = positions
            .iter()
            .map(|&(partition, offset)| Position {
                partition,
                offset,
                metadata: &note,
            })
            .collect();
        let refused = match self.coordinator.commit(member, &self.topic, &request).await {
            Ok(refused) => refused,
            Err(error) => {
                self.complain(&error);
                return Err(error);
            }
        };
        let mut taken: BTreeSet<i32> = positions.iter().map(|(partition, _)| *partition).collect();
        for (partition, code) in &refused {
            taken.remove(partition);
            self.complain(&Error::Answered(*code));
        }
        self.known |= !taken.is_empty();
        if refused.is_empty() {
            self.complained = false;
            self.metrics.commits.inc();
        }
        Ok(taken)
    }

    fn complain(&mut self, error: &Error) {
        self.metrics.commits_failed.inc();
        if !std::mem::replace(&mut self.complained, true) {
            warn!(error = %ErrorChain(error), "positions cannot be kept; serving goes on");
        }
    }
}
