//! Runs a [`PartitionWorker`] for each assigned partition of every topic and commits their offsets.
//!
//! - Assigned: the start offset is looked up, the worker is spawned, and the start is committed before the first poll.
//! - Revoked: the worker stops and drains, its offset is committed, and only then is the partition released.
//! - Lost: another member may own the partitions already. The workers are aborted and nothing is committed.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
    sync::Arc,
    time::Duration,
};

use kafka::{Assignment, CommittedOffsets, CoordinatorError, Rebalance, TopicPartition};
use shared::{error_chain::ErrorChain, readiness::HealthCheck};
use tokio::{
    sync::watch,
    task::{Id, JoinError, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};

use crate::{
    heartbeats::Served,
    partition_worker::{Context, PartitionWorker},
};

/// Between two commits.
const COMMIT_INTERVAL: Duration = Duration::from_millis(500);

/// Between two commits of an unchanged offset. Kafka deletes offsets that were not committed for
/// `offsets.retention.minutes`, one week by default.
const RECOMMIT_INTERVAL: Duration = Duration::from_hours(1);

/// Between two attempts to look up start offsets.
const START_RETRY: Duration = Duration::from_millis(200);

/// Bounds the look-up of start offsets, because revoked and lost partitions wait for it.
const START_TIMEOUT: Duration = Duration::from_secs(8);

/// Between two attempts of a last commit.
const LAST_COMMIT_RETRY: Duration = Duration::from_millis(50);

/// Bounds the last commit of revoked partitions, because their next owner waits for it.
const LAST_COMMIT: Duration = Duration::from_millis(800);

/// Why start offsets are unknown.
type StartError = Box<dyn std::error::Error + Send + Sync>;

/// The result of an ended worker: its task and partition.
type Ended = Result<(Id, TopicPartition), JoinError>;

/// The consumer of the request topics.
#[derive(Debug)]
pub(crate) struct Consumer {
    assignment: Assignment,
    committed_offsets: CommittedOffsets,
    context: Context,
    /// Assigned partitions whose start offset is not known yet.
    starting: BTreeSet<TopicPartition>,
    start_at: Instant,
    workers: BTreeMap<TopicPartition, PartitionWorker>,
    /// The tasks of the workers, and of lost ones that have not ended yet.
    running: JoinSet<TopicPartition>,
    /// Ready from the first assignment on, while the start of every assigned partition is fixed. A member of a group may have no
    /// partitions.
    health_check: HealthCheck,
    /// The partitions that are served.
    served: watch::Sender<Served>,
}

// === impl Consumer ===

impl Consumer {
    pub(crate) fn new(
        assignment: Assignment,
        committed_offsets: CommittedOffsets,
        context: Context,
        health_check: HealthCheck,
        served: watch::Sender<Served>,
    ) -> Self {
        Self {
            assignment,
            committed_offsets,
            context,
            starting: BTreeSet::new(),
            start_at: Instant::now(),
            workers: BTreeMap::new(),
            running: JoinSet::new(),
            health_check,
            served,
        }
    }

    /// Serves until `shutdown` resolves, then drains, commits and leaves the group.
    pub(crate) async fn run(mut self, shutdown: impl Future<Output = ()>) {
        self.serve(shutdown).await;
        self.drain().await;
    }

    async fn serve(&mut self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut commits = interval(COMMIT_INTERVAL);
        commits.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut recommits = interval(RECOMMIT_INTERVAL);
        let start_known = Arc::clone(&self.context.start_known);
        loop {
            tokio::select! {
                // Biased: the group waits for rebalances and releases, so they come before commits.
                biased;
                () = &mut shutdown => return,
                rebalance = self.assignment.next() => self.on_rebalance(rebalance),
                Some(ended) = self.running.join_next_with_id() => self.on_ended(ended).await,
                () = sleep_until(self.start_at), if !self.starting.is_empty() => self.start_workers().await,
                () = start_known.notified() => { self.commit().await; }
                _ = commits.tick() => { self.commit().await; }
                _ = recommits.tick() => self.workers.values().for_each(|worker| worker.offsets().recommit()),
            }
        }
    }

    /// Waits for the requests in flight, commits, and leaves the group.
    async fn drain(mut self) {
        self.workers.values().for_each(PartitionWorker::stop);
        while let Some(ended) = self.running.join_next_with_id().await {
            unless_aborted(ended);
        }
        self.commit_last(&self.workers.keys().cloned().collect()).await;
        self.assignment.leave(LAST_COMMIT).await;
    }

    fn on_rebalance(&mut self, rebalance: Rebalance) {
        match rebalance {
            Rebalance::Assigned(partitions) => {
                self.starting.extend(partitions);
                self.start_at = Instant::now();
            }
            Rebalance::Revoked(partitions) => {
                if self.assignment.member_epoch().is_none() {
                    // Without a group, only the topic revokes partitions.
                    self.committed_offsets.partitions_removed(&partitions);
                }
                let (served, unstarted): (BTreeSet<_>, BTreeSet<_>) = partitions
                    .into_iter()
                    .partition(|partition| self.workers.contains_key(partition));
                for partition in &served {
                    self.workers.get(partition).inspect(|worker| worker.stop());
                }
                self.starting.retain(|partition| !unstarted.contains(partition));
                if !unstarted.is_empty() {
                    self.assignment.released(&unstarted);
                }
            }
            Rebalance::Lost => {
                self.workers.values().for_each(PartitionWorker::abort);
                self.workers.clear();
                self.starting.clear();
            }
        }
        self.update_status();
    }

    /// Spawns a worker for each partition in `starting`, or sets the time of the next attempt.
    async fn start_workers(&mut self) {
        let started = timeout(START_TIMEOUT, self.try_start_workers()).await;
        if let Err(cause) = started.unwrap_or_else(|elapsed| Err(elapsed.into())) {
            self.health_check.not_ready(&ErrorChain(&*cause));
            self.start_at = Instant::now() + START_RETRY;
        }
    }

    async fn try_start_workers(&mut self) -> Result<(), StartError> {
        let mut by_topic = BTreeMap::<Arc<str>, BTreeSet<i32>>::new();
        for starting in &self.starting {
            let partitions = by_topic.entry(Arc::clone(&starting.topic)).or_default();
            partitions.insert(starting.partition);
        }
        // A topic that is missing does not hold up the others.
        let mut failed = None;
        for (topic, partitions) in by_topic {
            if let Err(error) = self.try_start_topic(&topic, &partitions).await {
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn try_start_topic(&mut self, topic: &Arc<str>, partitions: &BTreeSet<i32>) -> Result<(), StartError> {
        let count = self.context.cluster.partitions(topic).await?.len();
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        let member_epoch = self.assignment.member_epoch();
        let starts = self
            .committed_offsets
            .starts(member_epoch.as_ref(), topic, partitions, count)
            .await
            .inspect_err(|error| revalidate(&self.assignment, error))?;
        for (partition, start) in starts {
            let partition = TopicPartition::new(topic, partition);
            self.starting.remove(&partition);
            let context = self.context.clone();
            let worker = PartitionWorker::spawn(&mut self.running, partition.clone(), start, context);
            self.workers.extend(worker.map(|worker| (partition, worker)));
        }
        Ok(())
    }

    /// Commits and releases the partitions of all workers that have ended. One commit for all: the rebalance timeout
    /// is for all revoked partitions together.
    async fn on_ended(&mut self, first: Ended) {
        let others = iter::from_fn(|| self.running.try_join_next_with_id());
        let ended = iter::once(first).chain(others).filter_map(unless_aborted);
        // A partition that was lost and assigned again has a newer worker.
        let is_current = |id, partition: &_| self.workers.get(partition).is_some_and(|worker| worker.id() == id);
        let partitions: BTreeSet<TopicPartition> = ended
            .filter_map(|(id, partition)| is_current(id, &partition).then_some(partition))
            .collect();
        if partitions.is_empty() {
            return;
        }
        self.commit_last(&partitions).await;
        self.workers.retain(|partition, _| !partitions.contains(partition));
        self.assignment.released(&partitions);
        self.update_status();
    }

    /// Commits the offsets of ended workers, within [`LAST_COMMIT`]. If that fails, the next owner repeats some requests
    /// and skips none.
    async fn commit_last(&mut self, partitions: &BTreeSet<TopicPartition>) {
        let commit = async {
            let is_uncommitted = |worker: &PartitionWorker| worker.offsets().committable().is_some();
            while partitions
                .iter()
                .filter_map(|partition| self.workers.get(partition))
                .any(is_uncommitted)
            {
                if !self.commit().await {
                    sleep(LAST_COMMIT_RETRY).await;
                }
            }
        };
        // A timeout is fine: the offsets before were committed.
        let _ = timeout(LAST_COMMIT, commit).await;
    }

    /// Commits every offset that has changed. Returns whether Kafka has accepted all of them.
    async fn commit(&mut self) -> bool {
        let offsets: Vec<(TopicPartition, i64)> = self
            .workers
            .iter()
            .filter_map(|(partition, worker)| Some((partition.clone(), worker.offsets().committable()?)))
            .collect();
        if offsets.is_empty() {
            return true;
        }
        let member_epoch = self.assignment.member_epoch();
        let result = self.committed_offsets.commit(member_epoch.as_ref(), &offsets).await;
        if let Err(error) = &result {
            revalidate(&self.assignment, error);
        }
        let accepted = result.unwrap_or_default();
        let all_accepted = accepted.len() == offsets.len();
        for (partition, offset) in offsets {
            if let Some(worker) = self.workers.get(&partition) {
                if accepted.contains(&partition) {
                    worker.offsets().committed(offset);
                }
                worker.offsets().mark_start_offered();
            }
        }
        self.update_status();
        all_accepted
    }

    /// Publishes which partitions are served, and whether these are all.
    fn update_status(&self) {
        let mut served = Served::new();
        let mut count = 0;
        for (partition, worker) in &self.workers {
            if worker.offsets().is_start_offered() {
                let of_topic = served.entry(partition.topic.to_string()).or_default();
                of_topic.push(partition.partition);
                count += 1;
            }
        }
        if self.starting.is_empty() && count == self.workers.len() {
            self.health_check.ready();
        }
        let gauge = &self.context.metrics.partitions;
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        self.served.send_if_modified(|current| {
            let is_changed = *current != served;
            *current = served;
            is_changed
        });
    }
}

/// The worker that has ended, unless it was aborted. A panic goes on.
fn unless_aborted(ended: Ended) -> Option<(Id, TopicPartition)> {
    match ended {
        Ok(ended) => Some(ended),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_aborted) => None,
    }
}

/// Lets a heartbeat check the membership if the error casts doubt on it.
fn revalidate(assignment: &Assignment, error: &CoordinatorError) {
    if matches!(error, CoordinatorError::Stale | CoordinatorError::Fenced(_)) {
        assignment.revalidate();
    }
}

#[cfg(test)]
mod tests;
