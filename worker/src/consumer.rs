//! The consumer: a worker for each partition that this worker has, and the positions they are at.
//!
//! - A partition that is taken: its start is looked up, its worker is started, and the start is committed before the
//!   first request is read.
//! - A partition that is released: its worker stops and finishes what it has read, the position is committed, and only
//!   then is the release reported.
//! - Partitions that are lost: their workers do nothing more, and their positions are forgotten.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kafka::{
    Assignment, Cluster, CommittedOffsets, ConsumerMetrics, CoordinatorError, Partition, PartitionConsumer, Rebalance,
};
use shared::{
    error_chain::ErrorChain,
    readiness::{HealthCheck, Readiness},
};
use tokio::{
    sync::{Notify, watch},
    task::{Id, JoinError, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};

use crate::{
    expiry::Expiry,
    metrics::Metrics,
    partition_worker::{Context, PartitionWorker},
    reply_producers::ReplyProducers,
};

/// How often positions are committed.
const COMMIT_INTERVAL: Duration = Duration::from_millis(500);

/// How often they are committed although nothing has changed: Kafka forgets what was not renewed for
/// `offsets.retention.minutes`, a week by default.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(3600);

/// Pause between attempts to look positions up.
const RETRY: Duration = Duration::from_millis(200);

/// Bound on finding out where to begin: what is released or lost meanwhile waits for that.
const START_LIMIT: Duration = Duration::from_secs(2);

/// How long the last commit of a partition is tried: whoever takes it over waits for that.
const LAST_COMMIT: Duration = Duration::from_millis(800);

/// Why a partition cannot be started.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What a consumer works with.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) topic: String,
    pub(crate) assignment: Assignment,
    pub(crate) positions: CommittedOffsets,
    pub(crate) replies: ReplyProducers,
    pub(crate) metrics: Metrics,
    pub(crate) consumer_metrics: ConsumerMetrics,
    pub(crate) readiness: Readiness,
    /// Met while every partition it has is read.
    pub(crate) health_check: HealthCheck,
    /// How long a worker may take to finish what it has read.
    pub(crate) drain: Duration,
    /// Told how many partitions are read.
    pub(crate) reading: watch::Sender<usize>,
}

/// A consumer at work.
#[derive(Debug)]
struct Shift {
    consumer: Consumer,
    workers: BTreeMap<i32, PartitionWorker>,
    running: JoinSet<i32>,
    /// Partitions whose start is not known yet.
    starting: BTreeSet<i32>,
    retry_at: Instant,
    /// A worker has fixed its start, which is to be committed.
    fixed: Arc<Notify>,
}

// === impl Consumer ===

impl Consumer {
    /// Serves until `shutdown` resolves; then finishes, within the time that it has.
    pub(crate) async fn run(self, shutdown: impl Future<Output = ()>) {
        if matches!(self.assignment, Assignment::Group(_)) {
            // A member may well have no partitions.
            self.health_check.ready();
        }
        let mut shift = Shift {
            consumer: self,
            workers: BTreeMap::new(),
            running: JoinSet::new(),
            starting: BTreeSet::new(),
            retry_at: Instant::now(),
            fixed: Arc::default(),
        };
        shift.work(shutdown).await;
        shift.end().await;
    }
}

// === impl Shift ===

impl Shift {
    async fn work(&mut self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut commits = interval(COMMIT_INTERVAL);
        commits.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut renewals = interval(RENEWAL_INTERVAL);
        loop {
            tokio::select! {
                // In this order: what others wait for comes first.
                biased;
                () = &mut shutdown => return,
                change = self.consumer.assignment.next() => self.change(change),
                Some(ended) = self.running.join_next_with_id() => self.ended(ended).await,
                () = sleep_until(self.retry_at), if !self.starting.is_empty() => self.start().await,
                () = self.fixed.notified() => { self.commit().await; }
                _ = commits.tick() => { self.commit().await; }
                _ = renewals.tick() => self.workers.values().for_each(|it| it.offsets().recommit()),
            }
        }
    }

    /// Lets everybody finish, then leaves.
    async fn end(mut self) {
        self.workers.values().for_each(PartitionWorker::stop);
        while let Some(ended) = self.running.join_next_with_id().await {
            partition_of(ended);
        }
        self.commit_last(&self.workers.keys().copied().collect()).await;
        self.consumer.assignment.leave(LAST_COMMIT).await;
    }

    fn change(&mut self, change: Rebalance) {
        match change {
            Rebalance::Assigned(partitions) => {
                self.starting.extend(partitions);
                self.retry_at = Instant::now();
            }
            Rebalance::Revoked(partitions) => {
                let (running, idle): (BTreeSet<_>, _) =
                    partitions.into_iter().partition(|it| self.workers.contains_key(it));
                self.starting.retain(|it| !idle.contains(it));
                if !idle.is_empty() {
                    self.consumer.assignment.released(&idle);
                }
                self.workers
                    .iter()
                    .filter(|(partition, _)| running.contains(partition))
                    .for_each(|(_, worker)| worker.stop());
            }
            Rebalance::Lost => {
                self.workers.values().for_each(PartitionWorker::abort);
                self.workers.clear();
                self.starting.clear();
            }
        }
        self.take_stock();
    }

    /// Starts what can be started.
    async fn start(&mut self) {
        let started = timeout(START_LIMIT, self.try_start()).await;
        if let Err(cause) = started.unwrap_or_else(|elapsed| Err(elapsed.into())) {
            self.consumer.health_check.not_ready(&ErrorChain(&*cause));
            self.retry_at = Instant::now() + RETRY;
        }
    }

    async fn try_start(&mut self) -> Result<(), Cause> {
        let consumer = &mut self.consumer;
        let count = consumer.cluster.partitions(&consumer.topic).await?.len();
        let member_epoch = consumer.assignment.member_epoch();
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        let starts = consumer
            .positions
            .starts(member_epoch.as_ref(), &self.starting, count)
            .await;
        let starts = starts.inspect_err(|error| revalidate(&consumer.assignment, error))?;
        for (partition, start) in starts {
            let context = Context {
                consumer: PartitionConsumer::new(
                    Partition::new(&consumer.cluster, &consumer.topic, partition),
                    start,
                    consumer
                        .readiness
                        .health_check(format!("requests of partition {partition}")),
                    consumer.consumer_metrics.for_partition(partition),
                ),
                replies: consumer.replies.clone(),
                metrics: consumer.metrics.clone(),
                expiry: Expiry::new(partition),
                drain: consumer.drain,
                fixed: Arc::clone(&self.fixed),
            };
            self.workers
                .insert(partition, PartitionWorker::spawn(&mut self.running, partition, context));
        }
        self.starting.clear();
        Ok(())
    }

    /// A worker has come to its end.
    async fn ended(&mut self, ended: Result<(Id, i32), JoinError>) {
        let Some((id, partition)) = partition_of(ended) else {
            return;
        };
        // A partition that was lost and taken again has another worker by now.
        if self.workers.get(&partition).is_none_or(|it| it.id() != id) {
            return;
        }
        let partitions = BTreeSet::from([partition]);
        self.commit_last(&partitions).await;
        self.workers.remove(&partition);
        self.consumer.assignment.released(&partitions);
        self.take_stock();
    }

    /// Commits the positions of workers that have ended. Without it whoever comes next repeats some work, but leaves
    /// nothing out.
    async fn commit_last(&mut self, partitions: &BTreeSet<i32>) {
        let commit = async {
            let unsaved = |worker: &PartitionWorker| worker.offsets().committable().is_some();
            while partitions.iter().filter_map(|it| self.workers.get(it)).any(unsaved) {
                if !self.commit().await {
                    sleep(RETRY / 4).await;
                }
            }
        };
        // Only the wait is given up.
        let _ = timeout(LAST_COMMIT, commit).await;
    }

    /// Commits what is not committed yet. Returns whether Kafka has it all now.
    async fn commit(&mut self) -> bool {
        let unsaved: Vec<(i32, i64)> = self
            .workers
            .iter()
            .filter_map(|(partition, worker)| Some((*partition, worker.offsets().committable()?)))
            .collect();
        if unsaved.is_empty() {
            return true;
        }
        let member_epoch = self.consumer.assignment.member_epoch();
        let committed = self.consumer.positions.commit(member_epoch.as_ref(), &unsaved).await;
        if let Err(error) = &committed {
            revalidate(&self.consumer.assignment, error);
        }
        let all_well = committed.as_ref().is_ok_and(|taken| taken.len() == unsaved.len());
        let taken = committed.unwrap_or_default();
        for (partition, position) in unsaved {
            if let Some(worker) = self.workers.get(&partition) {
                if taken.contains(&partition) {
                    worker.offsets().committed(position);
                }
                worker.offsets().mark_start_offered();
            }
        }
        self.take_stock();
        all_well
    }

    /// Says how many partitions are read, and whether that is all there are to read.
    fn take_stock(&self) {
        let reading = self
            .workers
            .values()
            .filter(|it| it.offsets().is_start_offered())
            .count();
        if self.starting.is_empty() && reading == self.workers.len() {
            self.consumer.health_check.ready();
        }
        self.consumer
            .metrics
            .partitions
            .set(i64::try_from(reading).unwrap_or(i64::MAX));
        self.consumer
            .reading
            .send_if_modified(|it| std::mem::replace(it, reading) != reading);
    }
}

/// Which worker has ended, unless it was aborted.
fn partition_of(ended: Result<(Id, i32), JoinError>) -> Option<(Id, i32)> {
    match ended {
        Ok(ended) => Some(ended),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_aborted) => None,
    }
}

/// Has the membership looked into, if the error is about it.
fn revalidate(assignment: &Assignment, error: &CoordinatorError) {
    if matches!(error, CoordinatorError::Stale | CoordinatorError::Fenced(_)) {
        assignment.revalidate();
    }
}
