//! The producer: records go in, batches go out to one partition or to several evenly, and every record's result comes back.
//!
//! [`accumulator`](super::accumulator) decides what goes when; here each connection is a task with a connection of its own that it
//! rebuilds after every failure. One frame is in flight per connection. The one owner of a produce call is its
//! connection: dropping a call half-way does not undo it, so no caller's future ever holds one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{
    accumulator::{Accumulator, Action, Full, Wake},
    backoff::Backoff,
    error::Error,
    link::{Connector, LeaderClient, Partition},
    metrics::ProducerMetrics,
    record::Record,
};
use shared::{error_chain::ErrorChain, readiness::HealthCheck, tasks::Tasks};

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryResult {
    /// All in-sync replicas have it.
    Acknowledged,
    /// Kafka did not take it or was out of reach, or the connection broke: then it may have it all the same.
    Failed,
    /// Kafka did not answer in time: it may have it or not. It is not sent again.
    Unknown,
}

/// Whoever wants to know what became of the records.
pub trait DeliveryCallback: Send + Sync + 'static {
    /// What comes back for a record.
    type Token: std::fmt::Debug + Send + 'static;

    /// The result of some records. Called from the connections: it must not block.
    fn on_delivery(&self, tokens: Vec<Self::Token>, result: DeliveryResult);
}

/// Why a record was not taken, and what was offered.
#[derive(Debug)]
pub enum SendError<T> {
    /// The producer takes nothing more.
    Closed(Record, T),
    /// There is no room, none of its partitions can be reached, and it was not to be waited for.
    Unreachable(T),
}

/// Connections of a process to produce with: the measured optimum on a small machine, and a bound on a large one.
pub const MAX_PRODUCER_CONNECTIONS: usize = 4;

/// How long to wait for a frame that is worth it. The runtime's clock has steps of a millisecond, so it is up to two.
const LINGER: Duration = Duration::from_millis(1);

/// The largest batch target, in records. With more than twice as many requests in flight, batches grow without a linger.
const MAX_BATCH_TARGET: usize = 512;

/// So long without one frame taken and a partition is out of reach: a leader that moves, or a broker that is restarted in
/// order, takes less.
const OUT_OF_REACH: Duration = Duration::from_secs(3);

/// How an producer behaves.
#[derive(Debug, Clone)]
pub struct ProducerSettings {
    /// Connections at most, where there are no more partitions than that: each partition has one, and all have as many.
    pub connections: usize,
    /// How much may wait, in bytes of records.
    pub max_bytes: usize,
    /// For how long to send a record again that Kafka does not acknowledge: the reader then sees duplicates and no gap.
    /// With [`Duration::ZERO`] each record is sent once by us; the client repeats what a connection broke over, or what a
    /// broker that is no longer the leader refused, for half a second.
    pub delivery_timeout: Duration,
    /// The number of requests in flight, each of which sends one record through this producer. A connection lingers until
    /// half of them are queued, at most 512. `None` turns the linger off: what is queued is sent at once.
    pub in_flight: Option<Gauge>,
}

/// A handle to put records in. Cheap to clone.
#[derive(Debug)]
pub struct Producer<R: DeliveryCallback> {
    shared: Arc<Shared<R>>,
}

#[derive(Debug)]
struct Shared<R: DeliveryCallback> {
    accumulator: Mutex<Accumulator<Entry<R::Token>>>,
    /// One per connection: there may be a frame for it.
    calls: RwLock<Vec<Arc<Notify>>>,
    /// There may be room again, or nothing to hope for.
    room: Notify,
    /// The accumulator may be quiet.
    quiet: Notify,
    receipts: R,
    /// Met while a primary connection has a connection.
    health_check: Option<HealthCheck>,
    /// What was tried in vain since it worked last.
    failing: Mutex<Option<Failing>>,
    /// When a frame was taken last.
    taken: Mutex<Option<Instant>>,
    metrics: ProducerMetrics,
    delivery_timeout: Duration,
    in_flight: Option<Gauge>,
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
    token: T,
    /// Since when it is to be sent; `None` where nothing is sent again.
    since: Option<Instant>,
}

type Batch<T> = Vec<(usize, Entry<T>)>;

// === impl Producer ===

impl<R: DeliveryCallback> Producer<R> {
    /// An producer to no partition yet. `health_check` is met while one of its partitions is connected.
    pub fn new(
        settings: ProducerSettings,
        receipts: R,
        health_check: impl Into<Option<HealthCheck>>,
        metrics: ProducerMetrics,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                accumulator: Mutex::new(Accumulator::new(settings.connections, settings.max_bytes)),
                calls: RwLock::default(),
                room: Notify::new(),
                quiet: Notify::new(),
                receipts,
                health_check: health_check.into(),
                failing: Mutex::new(None),
                taken: Mutex::new(None),
                metrics,
                delivery_timeout: settings.delivery_timeout,
                in_flight: settings.in_flight,
                abandoned: AtomicBool::new(false),
            }),
        }
    }

    /// Adds a partition to those it writes to. Its connections run among `tasks`, and end when the producer is flushed.
    pub fn add(&self, tasks: &Tasks, partition: Partition) {
        self.add_over(tasks, partition);
    }

    fn add_over<C: Connector>(&self, tasks: &Tasks, connect: C) {
        let connect = Arc::new(connect);
        let connections = {
            let mut accumulator = self.shared.accumulator.lock();
            let connections = accumulator.add_partition();
            let calls = connections.clone().map(|_| Arc::new(Notify::new()));
            // Under the lock of the accumulator, so that connections and calls are numbered alike.
            self.shared.calls.write().extend(calls);
            connections
        };
        let primary = connections.start;
        for connection in connections {
            let is_primary = connection == primary;
            tasks.spawn(run_connection(
                Arc::clone(&self.shared),
                Arc::clone(&connect),
                connection,
                is_primary,
            ));
        }
    }

    /// Bounds the connections anew.
    pub fn set_max_connections(&self, connections: usize) {
        self.shared.accumulator.lock().set_max_connections(connections);
        self.shared.wake_all();
    }

    /// Takes a record in, or gives its token back when there is no room (or the producer is closed).
    ///
    /// # Errors
    /// [`Full`] when what waits has reached the bound.
    pub fn try_send(&self, record: Record, token: R::Token) -> Result<(), Full<R::Token>> {
        self.push(self.entry(record, token))
            .map_err(|Full(entry)| Full(entry.token))
    }

    /// Takes a record in as soon as there is room; once its partitions are out of reach, it waits for that only if `insists`
    /// says so. Cancelling loses the record, but nothing else.
    ///
    /// # Errors
    /// [`SendError::Closed`] after [`Producer::flush`], else [`SendError::Unreachable`].
    pub async fn send(
        &self,
        record: Record,
        token: R::Token,
        insists: impl Fn() -> bool,
    ) -> Result<(), SendError<R::Token>> {
        let mut entry = match self.push(self.entry(record, token)) {
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
            if self.shared.accumulator.lock().is_closed() {
                return Err(SendError::Closed(entry.record, entry.token));
            }
            if self.is_out_of_reach() && !insists() {
                return Err(SendError::Unreachable(entry.token));
            }
            // As long as it is out of reach nobody makes room.
            let _ = timeout(OUT_OF_REACH, room).await;
        }
    }

    /// Takes nothing more in, and waits until everything is settled or `limit` has passed. Returns whether
    /// everything was settled.
    pub async fn flush(&self, limit: Duration) -> bool {
        self.shared.accumulator.lock().close();
        self.shared.wake_all();
        self.shared.room.notify_waiters();
        let all_settled = async {
            loop {
                let mut quiet = std::pin::pin!(self.shared.quiet.notified());
                quiet.as_mut().enable();
                if self.shared.accumulator.lock().is_quiet() {
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

    fn entry(&self, record: Record, token: R::Token) -> Entry<R::Token> {
        let since = (!self.shared.delivery_timeout.is_zero()).then(Instant::now);
        Entry { record, token, since }
    }

    fn push(&self, entry: Entry<R::Token>) -> Result<(), Full<Entry<R::Token>>> {
        let wake = self.shared.accumulator.lock().push(entry.record.size_bytes(), entry)?;
        self.shared.wake(wake);
        Ok(())
    }
}

impl<R: DeliveryCallback> Clone for Producer<R> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

// === impl Shared ===

impl<R: DeliveryCallback> Shared<R> {
    fn wake(&self, connection: Wake) {
        if let Some(call) = connection.and_then(|it| self.call(it)) {
            call.notify_one();
        }
    }

    fn wake_all(&self) {
        for call in self.calls.read().iter() {
            call.notify_one();
        }
    }

    fn call(&self, connection: usize) -> Option<Arc<Notify>> {
        self.calls.read().get(connection).cloned()
    }

    async fn called(&self, connection: usize) {
        match self.call(connection) {
            Some(call) => call.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Whether an entry is worth sending again.
    fn insists(&self, entry: &Entry<R::Token>) -> bool {
        entry.since.is_some_and(|it| it.elapsed() < self.delivery_timeout) && !self.abandoned.load(Ordering::Relaxed)
    }

    /// A connection has a connection.
    fn connected(&self) {
        self.failing.lock().take_if(|it| !it.frame_lost);
        self.health_check.as_ref().inspect(|it| it.ready());
    }

    /// A connection has none, because of `error`, or lost a frame and its connection over it.
    fn disconnected(&self, error: &Error, frame_lost: bool) {
        if self.accumulator.lock().any_primary_connected() {
            return;
        }
        let failing = || Failing {
            since: Instant::now(),
            frame_lost,
        };
        self.failing.lock().get_or_insert_with(failing).frame_lost |= frame_lost;
        self.room.notify_waiters();
        if let Some(health_check) = &self.health_check {
            health_check.not_ready(&ErrorChain(error));
        }
    }

    /// How many queued records end a linger: half of the requests in flight. While one half is on its way to the service and
    /// back, the other half is queued. Up to three requests in flight never linger.
    fn batch_target(&self) -> usize {
        let in_flight = self.in_flight.as_ref().map_or(0, Gauge::get);
        usize::try_from(in_flight / 2).unwrap_or(0).min(MAX_BATCH_TARGET)
    }

    /// The next frame for a connection; `None` when it is to close its connection, because the producer is closed and empty or
    /// because there are to be fewer connections.
    async fn next_batch(&self, connection: usize, link: &impl LeaderClient) -> Option<Batch<R::Token>> {
        loop {
            let (turn, wake, closed) = {
                let mut accumulator = self.accumulator.lock();
                accumulator.set_batch_bytes(link.batch_bytes());
                accumulator.set_batch_target(self.batch_target());
                let (turn, wake) = accumulator.take(connection);
                (turn, wake, accumulator.is_closed())
            };
            self.wake(wake);
            match turn {
                Action::Send(frame) => {
                    self.room.notify_waiters();
                    return Some(frame);
                }
                Action::Linger => {
                    // Called or not, it asks again.
                    let _ = timeout(LINGER, self.called(connection)).await;
                }
                Action::Park if !closed => self.called(connection).await,
                Action::Park | Action::Disconnect => {
                    self.quiet.notify_waiters();
                    return None;
                }
            }
        }
    }

    /// Waits until a connection that has no connection should make one. `false` when the producer is closed and has nothing for
    /// it.
    async fn connection_wanted(&self, connection: usize) -> bool {
        loop {
            let (wanted, wake, closed) = {
                let mut accumulator = self.accumulator.lock();
                let (wanted, wake) = accumulator.wants_connection(connection);
                (wanted, wake, accumulator.is_closed())
            };
            self.wake(wake);
            if wanted {
                return true;
            }
            if closed {
                self.quiet.notify_waiters();
                return false;
            }
            self.called(connection).await;
        }
    }

    fn settle(&self, frame: Batch<R::Token>, result: DeliveryResult) {
        let tokens = frame.into_iter().map(|(_, entry)| entry.token).collect();
        self.receipts.on_delivery(tokens, result);
    }

    /// If Kafka is out of reach for every connection, the senders of what is not to be sent again should know now.
    fn give_up_waiting(&self) {
        if !self.accumulator.lock().any_connected() {
            self.fail_waiting();
        }
    }

    fn fail_waiting(&self) {
        // The oldest wait in front.
        let waiting = self.accumulator.lock().drain_while(|entry| !self.insists(entry));
        if !waiting.is_empty() {
            let tokens = waiting.into_iter().map(|entry| entry.token).collect();
            self.receipts.on_delivery(tokens, DeliveryResult::Failed);
            self.room.notify_waiters();
        }
    }

    /// Sends a frame; gives back what is to be sent again of it.
    async fn send_batch(
        &self,
        link: &impl LeaderClient,
        mut frame: Batch<R::Token>,
    ) -> Result<(), (Error, Batch<R::Token>)> {
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
        self.metrics.batches.inc();
        let error = match link.produce(records).await {
            Ok(()) => {
                self.settle(frame, DeliveryResult::Acknowledged);
                return Ok(());
            }
            Err(error) => error,
        };
        match error {
            Error::Refused(_) => {
                self.settle(frame, DeliveryResult::Failed);
                tracing::warn!(error = %ErrorChain(&error), "records dropped");
                Ok(())
            }
            _ if keep && self.insists_on(&frame) => Err((error, frame)),
            Error::TimedOut(_) => {
                self.settle(frame, DeliveryResult::Unknown);
                Err((error, Vec::new()))
            }
            _ => {
                self.settle(frame, DeliveryResult::Failed);
                Err((error, Vec::new()))
            }
        }
    }

    /// A frame goes again as a whole, while its youngest record is worth it.
    fn insists_on(&self, frame: &Batch<R::Token>) -> bool {
        frame.last().is_some_and(|(_, entry)| self.insists(entry))
    }
}

/// A connection: connects, sends frame after frame, connects anew after a failure. Ends when the producer is closed and
/// empty.
async fn run_connection<C: Connector, R: DeliveryCallback>(
    shared: Arc<Shared<R>>,
    connect: Arc<C>,
    connection: usize,
    is_primary: bool,
) {
    let mut backoff = Backoff::default();
    let mut link: Option<C::LeaderClient> = None;
    loop {
        let Some(connected) = &link else {
            if !shared.connection_wanted(connection).await {
                return;
            }
            match connect.connect().await {
                Ok(new) => {
                    if is_primary {
                        shared.connected();
                    }
                    link = Some(new);
                }
                Err(error) => {
                    shared.disconnected(&error, false);
                    shared.give_up_waiting();
                    backoff.pause().await;
                }
            }
            continue;
        };
        let Some(frame) = shared.next_batch(connection, connected).await else {
            link = None;
            continue;
        };
        match shared.send_batch(connected, frame).await {
            Ok(()) => {
                *shared.failing.lock() = None;
                *shared.taken.lock() = Some(Instant::now());
                backoff.reset();
            }
            Err((error, unsent)) => {
                shared.metrics.connection_failures.inc();
                link = None;
                let wake = shared.accumulator.lock().lose(connection, unsent);
                shared.disconnected(&error, true);
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
