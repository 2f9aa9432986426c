//! Fetches and commits the offsets of a group.
//!
//! The metadata of each committed offset says how many partitions the topic had when the group first read it. A partition
//! without a committed offset that is not one of those was added later: the group has read nothing of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use shared::{config::StartFrom, error_chain::ErrorChain, outage_log::OutageLog};
use tracing::{info, warn};

use crate::{
    coordinator::{CommittedOffset, Coordinator, Error, OffsetToCommit},
    cursor::Start,
    membership::MemberEpoch,
    metrics::CommitMetrics,
    topic_partition::TopicPartition,
};

/// The beginning of the metadata; the number of partitions follows.
const METADATA_PREFIX: &str = "first-partitions=";

/// The committed offsets of a group.
#[derive(Debug)]
pub struct CommittedOffsets {
    coordinator: Coordinator,
    start_from: StartFrom,
    topics: BTreeMap<Arc<str>, TopicOffsets>,
    outage_log: OutageLog,
    metrics: CommitMetrics,
}

/// What is known of the offsets in one topic.
#[derive(Debug, Default)]
struct TopicOffsets {
    /// How many partitions the topic had at first; `None` before the first look-up.
    first_partitions: Option<i32>,
    /// There have been committed offsets. If there are none any more, the topic was deleted and created again.
    had_offsets: bool,
}

// === impl CommittedOffsets ===

impl CommittedOffsets {
    /// The offsets of the coordinator's group.
    pub fn new(coordinator: Coordinator, start_from: StartFrom, metrics: CommitMetrics) -> Self {
        Self {
            coordinator,
            start_from,
            topics: BTreeMap::new(),
            outage_log: OutageLog::default(),
            metrics,
        }
    }

    /// Where to start reading `partitions` of `topic`, which has `count` partitions. Without a group (`member` is `None`) the
    /// setting decides. In a group the committed offset does, and the setting is for partitions without one.
    ///
    /// # Errors
    /// If the committed offsets cannot be fetched. It is worth another attempt.
    pub async fn starts(
        &mut self,
        member: Option<&MemberEpoch>,
        topic: &Arc<str>,
        partitions: &BTreeSet<i32>,
        count: i32,
    ) -> Result<BTreeMap<i32, Start>, Error> {
        let all: Vec<i32> = (0..count)
            .chain(partitions.iter().copied().filter(|partition| *partition >= count))
            .collect();
        let committed = match self.coordinator.committed(member, topic, &all).await {
            Ok(committed) => committed,
            Err(error) if member.is_none() && error.is_lasting() => {
                self.metrics.commits_failed.inc();
                warn!(error = %ErrorChain(&error), "cannot fetch committed offsets; reading as if there were none");
                BTreeMap::new()
            }
            Err(error) => return Err(error),
        };
        let noted = committed
            .values()
            .filter_map(|offset| offset.metadata.strip_prefix(METADATA_PREFIX)?.parse().ok());
        let known = self.topics.entry(Arc::clone(topic)).or_default();
        let first_partitions = *known.first_partitions.get_or_insert(noted.min().unwrap_or(count));
        let is_recreated = known.had_offsets && committed.is_empty();
        known.had_offsets |= !committed.is_empty();
        if is_recreated {
            info!(%topic, "the topic of the committed offsets was deleted; the new one is read from the beginning");
            known.first_partitions = Some(first_partitions.min(count));
            return Ok(partitions
                .iter()
                .map(|partition| (*partition, Start::Earliest))
                .collect());
        }
        let start = |partition: &i32| {
            (
                *partition,
                self.start(member.is_some(), *partition, first_partitions, &committed),
            )
        };
        Ok(partitions.iter().map(start).collect())
    }

    fn start(
        &self,
        in_group: bool,
        partition: i32,
        first_partitions: i32,
        committed: &BTreeMap<i32, CommittedOffset>,
    ) -> Start {
        match (self.start_from, committed.get(&partition)) {
            (StartFrom::Earliest, _) if !in_group => Start::Earliest,
            (StartFrom::Latest, _) if !in_group && partition < first_partitions => Start::Latest,
            (_, Some(committed)) => Start::At(committed.offset),
            (_, None) if partition >= first_partitions => Start::Earliest,
            (StartFrom::Resume | StartFrom::Latest, None) => Start::Latest,
            (StartFrom::Earliest, None) => Start::Earliest,
        }
    }

    /// Topics no longer have `partitions`. If a topic gets them again, they are new, and the group has read nothing of them.
    pub fn partitions_removed(&mut self, partitions: &BTreeSet<TopicPartition>) {
        for removed in partitions {
            let known = self.topics.get_mut(&removed.topic);
            if let Some(count) = known.and_then(|known| known.first_partitions.as_mut()) {
                *count = (*count).min(removed.partition);
            }
        }
    }

    /// Commits offsets, one call for each topic. Returns the partitions whose offset Kafka has now. Failures are counted, and
    /// logged as an outage.
    ///
    /// # Errors
    /// After [`Error::Stale`] and [`Error::Fenced`] the membership must be revalidated; other errors are worth another
    /// attempt.
    pub async fn commit(
        &mut self,
        member: Option<&MemberEpoch>,
        offsets: &[(TopicPartition, i64)],
    ) -> Result<BTreeSet<TopicPartition>, Error> {
        let mut by_topic = BTreeMap::<&Arc<str>, Vec<(i32, i64)>>::new();
        for (partition, offset) in offsets {
            let of_topic = by_topic.entry(&partition.topic).or_default();
            of_topic.push((partition.partition, *offset));
        }
        let mut committed = BTreeSet::new();
        for (topic, offsets) in by_topic {
            let accepted = self.commit_topic(member, topic, &offsets).await?;
            committed.extend(
                accepted
                    .into_iter()
                    .map(|partition| TopicPartition::new(topic, partition)),
            );
        }
        Ok(committed)
    }

    async fn commit_topic(
        &mut self,
        member: Option<&MemberEpoch>,
        topic: &Arc<str>,
        offsets: &[(i32, i64)],
    ) -> Result<BTreeSet<i32>, Error> {
        let known = self.topics.entry(Arc::clone(topic)).or_default();
        let metadata = known.first_partitions.map(|count| format!("{METADATA_PREFIX}{count}"));
        let metadata = metadata.unwrap_or_default();
        let request: Vec<_> = offsets
            .iter()
            .map(|&(partition, offset)| OffsetToCommit {
                partition,
                offset,
                metadata: &metadata,
            })
            .collect();
        let refused = match self.coordinator.commit(member, topic, &request).await {
            Ok(refused) => refused,
            Err(error) => {
                self.on_failure(&error);
                return Err(error);
            }
        };
        let mut committed: BTreeSet<i32> = offsets.iter().map(|(partition, _)| *partition).collect();
        for (partition, code) in &refused {
            committed.remove(partition);
            self.on_failure(&Error::ErrorCode(*code));
        }
        if let Some(known) = self.topics.get_mut(topic) {
            known.had_offsets |= !committed.is_empty();
        }
        if refused.is_empty() {
            self.metrics.commits.inc();
            if let Some(age) = self.outage_log.on_success() {
                info!(?age, "offsets are committed again");
            }
        }
        Ok(committed)
    }

    fn on_failure(&mut self, error: &Error) {
        self.metrics.commits_failed.inc();
        let error = ErrorChain(error).to_string();
        if let Some(age) = self.outage_log.on_failure(&error) {
            warn!(%error, ?age, "cannot commit offsets; records are processed all the same");
        }
    }
}

#[cfg(test)]
mod tests;
