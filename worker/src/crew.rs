//! The crew: a reader for each partition that this worker has, and the positions they are at.
//!
//! - A partition that is taken: its start is looked up, its reader is started, and the start is committed before the
//!   first request is read.
//! - A partition that is released: its reader stops and finishes what it has read, the position is committed, and only
//!   then is the release reported.
//! - Partitions that are lost: their readers do nothing more, and their positions are forgotten.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kafka::{Assignment, Change, Cluster, CoordinatorError, Partition, Positions, Tail, TailMetrics};
use shared::{
    error_chain::Chain,
    readiness::{Condition, Readiness},
};
use tokio::{
    sync::{Notify, watch},
    task::{Id, JoinError, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};

use crate::{
    clocks::Clocks,
    destinations::Destinations,
    metrics::Metrics,
    reader::{Desk, Reader},
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

/// What a crew works with.
#[derive(Debug)]
pub(crate) struct Crew {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) topic: String,
    pub(crate) assignment: Assignment,
    pub(crate) positions: Positions,
    pub(crate) replies: Destinations,
    pub(crate) metrics: Metrics,
    pub(crate) tail_metrics: TailMetrics,
    pub(crate) readiness: Readiness,
    /// Met while every partition it has is read.
    pub(crate) condition: Condition,
    /// How long a reader may take to finish what it has read.
    pub(crate) drain: Duration,
    /// Told how many partitions are read.
    pub(crate) reading: watch::Sender<usize>,
}

/// A crew at work.
#[derive(Debug)]
struct Shift {
    crew: Crew,
    readers: BTreeMap<i32, Reader>,
    running: JoinSet<i32>,
    /// Partitions whose start is not known yet.
    starting: BTreeSet<i32>,
    clocks: Clocks,
    retry_at: Instant,
    /// A reader has fixed its start, which is to be committed.
    fixed: Arc<Notify>,
}

// === impl Crew ===

impl Crew {
    /// Serves until `shutdown` resolves; then finishes, within the time that it has.
    pub(crate) async fn run(self, shutdown: impl Future<Output = ()>) {
        if matches!(self.assignment, Assignment::Group(_)) {
            // A member may well have no partitions.
            self.condition.met();
        }
        let mut shift = Shift {
            crew: self,
            readers: BTreeMap::new(),
            running: JoinSet::new(),
            starting: BTreeSet::new(),
            clocks: Clocks::default(),
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
                change = self.crew.assignment.next() => self.change(change),
                Some(ended) = self.running.join_next_with_id() => self.ended(ended).await,
                () = sleep_until(self.retry_at), if !self.starting.is_empty() => self.start().await,
                () = self.fixed.notified() => { self.commit().await; }
                _ = commits.tick() => { self.commit().await; }
                _ = renewals.tick() => self.readers.values().for_each(|it| it.progress().renew()),
            }
        }
    }

    /// Lets everybody finish, then leaves.
    async fn end(mut self) {
        self.readers.values().for_each(Reader::stop);
        while let Some(ended) = self.running.join_next_with_id().await {
            partition_of(ended);
        }
        self.commit_last(&self.readers.keys().copied().collect()).await;
        self.crew.assignment.leave(LAST_COMMIT).await;
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Take(partitions) => {
                self.starting.extend(partitions);
                self.retry_at = Instant::now();
            }
            Change::Release(partitions) => {
                let (running, idle): (BTreeSet<_>, _) =
                    partitions.into_iter().partition(|it| self.readers.contains_key(it));
                self.starting.retain(|it| !idle.contains(it));
                if !idle.is_empty() {
                    self.crew.assignment.released(&idle);
                }
                self.readers
                    .iter()
                    .filter(|(partition, _)| running.contains(partition))
                    .for_each(|(_, reader)| reader.stop());
            }
            Change::Lose => {
                self.readers.values().for_each(Reader::abort);
                self.readers.clear();
                self.starting.clear();
            }
        }
        self.take_stock();
    }

    /// Starts what can be started.
    async fn start(&mut self) {
        let started = timeout(START_LIMIT, self.try_start()).await;
        if let Err(cause) = started.unwrap_or_else(|elapsed| Err(elapsed.into())) {
            self.crew.condition.unmet(&Chain(&*cause));
            self.retry_at = Instant::now() + RETRY;
        }
    }

    async fn try_start(&mut self) -> Result<(), Cause> {
        let crew = &mut self.crew;
        let count = crew.cluster.partitions(&crew.topic).await?.len();
        let identity = crew.assignment.identity();
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        let starts = crew.positions.starts(identity.as_ref(), &self.starting, count).await;
        let starts = starts.inspect_err(|error| doubt(&crew.assignment, error))?;
        for (partition, start) in starts {
            let desk = Desk {
                tail: Tail::new(
                    Partition::new(&crew.cluster, &crew.topic, partition),
                    start,
                    crew.readiness.condition(format!("requests of partition {partition}")),
                    crew.tail_metrics.of(partition),
                ),
                replies: crew.replies.clone(),
                metrics: crew.metrics.clone(),
                clocks: self.clocks.clone(),
                drain: crew.drain,
                fixed: Arc::clone(&self.fixed),
            };
            self.readers
                .insert(partition, Reader::spawn(&mut self.running, partition, desk));
        }
        self.starting.clear();
        Ok(())
    }

    /// A reader has come to its end.
    async fn ended(&mut self, ended: Result<(Id, i32), JoinError>) {
        let Some((id, partition)) = partition_of(ended) else {
            return;
        };
        // A partition that was lost and taken again has another reader by now.
        if self.readers.get(&partition).is_none_or(|it| it.id() != id) {
            return;
        }
        let partitions = BTreeSet::from([partition]);
        self.commit_last(&partitions).await;
        self.readers.remove(&partition);
        self.crew.assignment.released(&partitions);
        self.take_stock();
    }

    /// Commits the positions of readers that have ended. Without it whoever comes next repeats some work, but leaves
    /// nothing out.
    async fn commit_last(&mut self, partitions: &BTreeSet<i32>) {
        let commit = async {
            let unsaved = |reader: &Reader| reader.progress().unsaved().is_some();
            while partitions.iter().filter_map(|it| self.readers.get(it)).any(unsaved) {
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
            .readers
            .iter()
            .filter_map(|(partition, reader)| Some((*partition, reader.progress().unsaved()?)))
            .collect();
        if unsaved.is_empty() {
            return true;
        }
        let identity = self.crew.assignment.identity();
        let committed = self.crew.positions.commit(identity.as_ref(), &unsaved).await;
        if let Err(error) = &committed {
            doubt(&self.crew.assignment, error);
        }
        let all_well = committed.as_ref().is_ok_and(|taken| taken.len() == unsaved.len());
        let taken = committed.unwrap_or_default();
        for (partition, position) in unsaved {
            if let Some(reader) = self.readers.get(&partition) {
                if taken.contains(&partition) {
                    reader.progress().saved(position);
                }
                reader.progress().start_offered();
            }
        }
        self.take_stock();
        all_well
    }

    /// Says how many partitions are read, and whether that is all there are to read.
    fn take_stock(&self) {
        let reading = self
            .readers
            .values()
            .filter(|it| it.progress().is_start_offered())
            .count();
        if self.starting.is_empty() && reading == self.readers.len() {
            self.crew.condition.met();
        }
        self.crew
            .metrics
            .partitions
            .set(i64::try_from(reading).unwrap_or(i64::MAX));
        self.crew
            .reading
            .send_if_modified(|it| std::mem::replace(it, reading) != reading);
    }
}

/// Which reader has ended, unless it was aborted.
fn partition_of(ended: Result<(Id, i32), JoinError>) -> Option<(Id, i32)> {
    match ended {
        Ok(ended) => Some(ended),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_aborted) => None,
    }
}

/// Has the membership looked into, if the error is about it.
fn doubt(assignment: &Assignment, error: &CoordinatorError) {
    if matches!(error, CoordinatorError::Stale | CoordinatorError::Expelled(_)) {
        assignment.doubt();
    }
}
