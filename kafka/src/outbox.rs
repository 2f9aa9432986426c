//! The outbox: records go in, frames go out to one partition or to several evenly, and every record's fate comes back.
//!
//! [`queue`](super::queue) decides what goes when; here each lane is a task with a connection of its own that it
//! rebuilds after every failure. One frame is in flight per connection. The one owner of a produce call is its
//! lane: dropping a call half-way does not undo it, so no caller's future ever holds one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{
    backoff::Backoff,
    error::Error,
    link::{Connect, Link, Partition},
    metrics::OutboxMetrics,
    queue::{Full, Queue, Turn, Wake},
    record::Record,
};
use shared::{error_chain::Chain, readiness::Condition, tasks::Tasks};

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// All in-sync replicas have it.
    Acknowledged,
    /// Kafka did not take it or was out of reach, or the connection broke: then it may have it all the same.
    Failed,
    /// Kafka did not answer in time: it may have it or not. It is not sent again.
    Unknown,
}

/// Whoever wants to know what became of the records.
pub trait Receipts: Send + Sync + 'static {
    /// What comes back for a record.
    type Tag: std::fmt::Debug + Send + 'static;

    /// The fate of some records. Called from the lanes: it must not block.
    fn settled(&self, tags: Vec<Self::Tag>, fate: Fate);

    /// How many records are worth a moment's wait, now. Without an idea of it what there is goes at once.
    fn enough(&self) -> usize {
        0
    }
}

/// Why a record was not taken, and what was offered.
#[derive(Debug)]
pub enum Unsent<T> {
    /// The outbox takes nothing more.
    Closed(Record, T),
    /// There is no room, none of its partitions can be reached, and it was not to be waited for.
    Unreachable(T),
}

/// Connections of a process to produce with: the measured optimum on a small machine, and a bound on a large one.
pub const LANES: usize = 4;

/// How long to wait for a frame that is worth it. The runtime's clock has steps of a millisecond, so it is up to two.
const MOMENT: Duration = Duration::from_millis(1);

/// So long without one frame taken and a partition is out of reach: a leader that moves, or a broker that is restarted in
/// order, takes less.
const OUT_OF_REACH: Duration = Duration::from_secs(3);

/// How an outbox behaves.
#[derive(Debug, Clone, Copy)]
pub struct OutboxSettings {
    /// Connections at most, where there are no more partitions than that: each partition has one, and all have as many.
    pub lanes: usize,
    /// How much may wait, in bytes of records.
    pub max_bytes: usize,
    /// For how long to send a record again that Kafka does not acknowledge: the reader then sees duplicates and no gap.
    /// With [`Duration::ZERO`] each record is sent once by us; the client repeats what a connection broke over, or what a
    /// broker that is no longer the leader refused, for half a second.
    pub patience: Duration,
}

/// A handle to put records in. Cheap to clone.
#[derive(Debug)]
pub struct Outbox<R: Receipts> {
    shared: Arc<Shared<R>>,
}

#[derive(Debug)]
struct Shared<R: Receipts> {
    queue: Mutex<Queue<Entry<R::Tag>>>,
    /// One per lane: there may be a frame for it.
    calls: RwLock<Vec<Arc<Notify>>>,
    /// There may be room again, or nothing to hope for.
    room: Notify,
    /// The queue may be quiet.
    quiet: Notify,
    receipts: R,
    /// Met while a home lane has a connection.
    condition: Option<Condition>,
    /// What was tried in vain since it worked last.
    failing: Mutex<Option<Failing>>,
    /// When a frame was taken last.
    taken: Mutex<Option<Instant>>,
    metrics: OutboxMetrics,
    patience: Duration,
    /// Nobody wants to wait for what is not settled yet.
    abandoned: AtomicBool,
}

#[derive(Debug)]
struct Failing {
    since: Instant,
    /// Then a connection alone proves nothing: a broker may take it and refuse every frame.
    frame_lost: bool,
}

#[derive(Debug)]
struct Entry<T> {
    record: Record,
    tag: T,
    /// Since when it is to be sent; `None` where nothing is sent again.
    since: Option<Instant>,
}

type Frame<T> = Vec<(usize, Entry<T>)>;

// === impl Outbox ===

impl<R: Receipts> Outbox<R> {
    /// An outbox to no partition yet. `condition` is met while one of its partitions is connected.
    pub fn new(
        settings: OutboxSettings,
        receipts: R,
        condition: impl Into<Option<Condition>>,
        metrics: OutboxMetrics,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                queue: Mutex::new(Queue::new(settings.lanes, settings.max_bytes)),
                calls: RwLock::default(),
                room: Notify::new(),
                quiet: Notify::new(),
                receipts,
                condition: condition.into(),
                failing: Mutex::new(None),
                taken: Mutex::new(None),
                metrics,
                patience: settings.patience,
                abandoned: AtomicBool::new(false),
            }),
        }
    }

    /// Adds a partition to those it writes to. Its lanes run among `tasks`, and end when the outbox is flushed.
    pub fn add(&self, tasks: &Tasks, partition: Partition) {
        self.add_over(tasks, partition);
    }

    fn add_over<C: Connect>(&self, tasks: &Tasks, connect: C) {
        let connect = Arc::new(connect);
        let lanes = {
            let mut queue = self.shared.queue.lock();
            let lanes = queue.add_partition();
            let calls = lanes.clone().map(|_| Arc::new(Notify::new()));
            // Under the lock of the queue, so that lanes and calls are numbered alike.
            self.shared.calls.write().extend(calls);
            lanes
        };
        let home = lanes.start;
        for lane in lanes {
            let is_home = lane == home;
            tasks.spawn(run_lane(Arc::clone(&self.shared), Arc::clone(&connect), lane, is_home));
        }
    }

    /// Bounds the connections anew.
    pub fn set_max_lanes(&self, lanes: usize) {
        self.shared.queue.lock().set_max_lanes(lanes);
        self.shared.wake_all();
    }

    /// Takes a record in, or gives its tag back when there is no room (or the outbox is closed).
    ///
    /// # Errors
    /// [`Full`] when what waits has reached the bound.
    pub fn try_send(&self, record: Record, tag: R::Tag) -> Result<(), Full<R::Tag>> {
        self.push(self.entry(record, tag))
            .map_err(|Full(entry)| Full(entry.tag))
    }

    /// Takes a record in as soon as there is room; once its partitions are out of reach, it waits for that only if `insists`
    /// says so. Cancelling loses the record, but nothing else.
    ///
    /// # Errors
    /// [`Unsent::Closed`] after [`Outbox::flush`], else [`Unsent::Unreachable`].
    pub async fn send(&self, record: Record, tag: R::Tag, insists: impl Fn() -> bool) -> Result<(), Unsent<R::Tag>> {
        let mut entry = match self.push(self.entry(record, tag)) {
            Ok(()) => return Ok(()),
            Err(Full(back)) => back,
        };
        loop {
            let mut room = std::pin::pin!(self.shared.room.notified());
            // Registered before the attempt, so that room made in between is not missed.
            room.as_mut().enable();
            entry = match self.push(entry) {
                Ok(()) => return Ok(()),
                Err(Full(back)) => back,
            };
            if self.shared.queue.lock().is_closed() {
                return Err(Unsent::Closed(entry.record, entry.tag));
            }
            if self.is_out_of_reach() && !insists() {
                return Err(Unsent::Unreachable(entry.tag));
            }
            // As long as it is out of reach nobody makes room.
            let _ = timeout(OUT_OF_REACH, room).await;
        }
    }

    /// Takes nothing more in, and waits until everything is settled or `limit` has passed. Returns whether
    /// everything was settled.
    pub async fn flush(&self, limit: Duration) -> bool {
        self.shared.queue.lock().close();
        self.shared.wake_all();
        self.shared.room.notify_waiters();
        let all_settled = async {
            loop {
                let mut quiet = std::pin::pin!(self.shared.quiet.notified());
                quiet.as_mut().enable();
                if self.shared.queue.lock().is_quiet() {
                    return;
                }
                quiet.await;
            }
        };
        timeout(limit, all_settled).await.is_ok()
    }

    /// Whether a frame was taken within the last seconds.
    #[must_use]
    pub fn is_in_reach(&self) -> bool {
        self.shared.taken.lock().is_some_and(|it| it.elapsed() < OUT_OF_REACH)
    }

    /// Whether all that was tried for seconds was in vain.
    fn is_out_of_reach(&self) -> bool {
        let failing = self.shared.failing.lock();
        failing.as_ref().is_some_and(|it| it.since.elapsed() >= OUT_OF_REACH)
    }

    /// Gives up what is not settled yet: what waits has failed, and what is under way is not sent again.
    pub fn abandon(&self) {
        self.shared.abandoned.store(true, Ordering::Relaxed);
        self.shared.fail_waiting();
    }

    fn entry(&self, record: Record, tag: R::Tag) -> Entry<R::Tag> {
        let since = (!self.shared.patience.is_zero()).then(Instant::now);
        Entry { record, tag, since }
    }

    fn push(&self, entry: Entry<R::Tag>) -> Result<(), Full<Entry<R::Tag>>> {
        let wake = self.shared.queue.lock().push(entry.record.size_bytes(), entry)?;
        self.shared.wake(wake);
        Ok(())
    }
}

impl<R: Receipts> Clone for Outbox<R> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

// === impl Shared ===

impl<R: Receipts> Shared<R> {
    fn wake(&self, lane: Wake) {
        if let Some(call) = lane.and_then(|it| self.call(it)) {
            call.notify_one();
        }
    }

    fn wake_all(&self) {
        for call in self.calls.read().iter() {
            call.notify_one();
        }
    }

    fn call(&self, lane: usize) -> Option<Arc<Notify>> {
        self.calls.read().get(lane).cloned()
    }

    async fn called(&self, lane: usize) {
        match self.call(lane) {
            Some(call) => call.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Whether an entry is worth sending again.
    fn insists(&self, entry: &Entry<R::Tag>) -> bool {
        entry.since.is_some_and(|it| it.elapsed() < self.patience) && !self.abandoned.load(Ordering::Relaxed)
    }

    /// A lane has a connection.
    fn linked(&self) {
        self.failing.lock().take_if(|it| !it.frame_lost);
        self.condition.as_ref().inspect(|it| it.met());
    }

    /// A lane has none, because of `error`, or lost a frame and its connection over it.
    fn unlinked(&self, error: &Error, frame_lost: bool) {
        if self.queue.lock().any_home_linked() {
            return;
        }
        let failing = || Failing {
            since: Instant::now(),
            frame_lost,
        };
        self.failing.lock().get_or_insert_with(failing).frame_lost |= frame_lost;
        self.room.notify_waiters();
        if let Some(condition) = &self.condition {
            condition.unmet(&Chain(error));
        }
    }

    /// The next frame for a lane; `None` when it is to close its connection, because the outbox is closed and empty or
    /// because there are to be fewer connections.
    async fn next_frame(&self, lane: usize, link: &impl Link) -> Option<Frame<R::Tag>> {
        loop {
            let enough = self.receipts.enough();
            let (turn, wake, closed) = {
                let mut queue = self.queue.lock();
                queue.set_frame_bytes(link.frame_bytes());
                queue.set_enough(enough);
                let (turn, wake) = queue.take(lane);
                (turn, wake, queue.is_closed())
            };
            self.wake(wake);
            match turn {
                Turn::Send(frame) => {
                    self.room.notify_waiters();
                    return Some(frame);
                }
                Turn::Gather => {
                    // Called or not, it asks again.
                    let _ = timeout(MOMENT, self.called(lane)).await;
                }
                Turn::Wait if !closed => self.called(lane).await,
                Turn::Wait | Turn::Unlink => {
                    self.quiet.notify_waiters();
                    return None;
                }
            }
        }
    }

    /// Waits until a lane that has no connection should make one. `false` when the outbox is closed and has nothing for
    /// it.
    async fn connection_wanted(&self, lane: usize) -> bool {
        loop {
            let (wanted, wake, closed) = {
                let mut queue = self.queue.lock();
                let (wanted, wake) = queue.knock(lane);
                (wanted, wake, queue.is_closed())
            };
            self.wake(wake);
            if wanted {
                return true;
            }
            if closed {
                self.quiet.notify_waiters();
                return false;
            }
            self.called(lane).await;
        }
    }

    fn settle(&self, frame: Frame<R::Tag>, fate: Fate) {
        let tags = frame.into_iter().map(|(_, entry)| entry.tag).collect();
        self.receipts.settled(tags, fate);
    }

    /// If Kafka is out of reach for every lane, the senders of what is not to be sent again should know now.
    fn give_up_waiting(&self) {
        if !self.queue.lock().any_linked() {
            self.fail_waiting();
        }
    }

    fn fail_waiting(&self) {
        // The oldest wait in front.
        let waiting = self.queue.lock().drain_while(|entry| !self.insists(entry));
        if !waiting.is_empty() {
            let tags = waiting.into_iter().map(|entry| entry.tag).collect();
            self.receipts.settled(tags, Fate::Failed);
            self.room.notify_waiters();
        }
    }

    /// Sends a frame; gives back what is to be sent again of it.
    async fn send_frame(&self, link: &impl Link, mut frame: Frame<R::Tag>) -> Result<(), (Error, Frame<R::Tag>)> {
        let keep = self.insists_on(&frame);
        let records = frame
            .iter_mut()
            .map(|(_, entry)| {
                if keep {
                    entry.record.clone()
                } else {
                    entry.record.take()
                }
            })
            .collect();
        self.metrics.frames.inc();
        let error = match link.produce(records).await {
            Ok(()) => {
                self.settle(frame, Fate::Acknowledged);
                return Ok(());
            }
            Err(error) => error,
        };
        match error {
            Error::Refused(_) => {
                self.settle(frame, Fate::Failed);
                tracing::warn!(error = %Chain(&error), "records dropped");
                Ok(())
            }
            _ if keep && self.insists_on(&frame) => Err((error, frame)),
            Error::TimedOut(_) => {
                self.settle(frame, Fate::Unknown);
                Err((error, Vec::new()))
            }
            _ => {
                self.settle(frame, Fate::Failed);
                Err((error, Vec::new()))
            }
        }
    }

    /// A frame goes again as a whole, while its youngest record is worth it.
    fn insists_on(&self, frame: &Frame<R::Tag>) -> bool {
        frame.last().is_some_and(|(_, entry)| self.insists(entry))
    }
}

/// A lane: connects, sends frame after frame, connects anew after a failure. Ends when the outbox is closed and
/// empty.
async fn run_lane<C: Connect, R: Receipts>(shared: Arc<Shared<R>>, connect: Arc<C>, lane: usize, is_home: bool) {
    let mut backoff = Backoff::default();
    let mut link: Option<C::Link> = None;
    loop {
        let Some(connected) = &link else {
            if !shared.connection_wanted(lane).await {
                return;
            }
            match connect.connect().await {
                Ok(new) => {
                    if is_home {
                        shared.linked();
                    }
                    link = Some(new);
                }
                Err(error) => {
                    shared.unlinked(&error, false);
                    shared.give_up_waiting();
                    backoff.pause().await;
                }
            }
            continue;
        };
        let Some(frame) = shared.next_frame(lane, connected).await else {
            link = None;
            continue;
        };
        match shared.send_frame(connected, frame).await {
            Ok(()) => {
                *shared.failing.lock() = None;
                *shared.taken.lock() = Some(Instant::now());
                backoff.reset();
            }
            Err((error, unsent)) => {
                shared.metrics.connection_failures.inc();
                link = None;
                let wake = shared.queue.lock().lose(lane, unsent);
                shared.unlinked(&error, true);
                shared.wake(wake);
                if backoff.has_failed() {
                    shared.give_up_waiting();
                }
                backoff.pause_unless_first().await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
