//! Queues records, sends them in batches to one partition or evenly to several, and reports each record's delivery.
//!
//! - The [`accumulator`](super::accumulator) decides what is sent when. Here each connection is a task that reconnects after
//!   every failure.
//! - One batch is in flight per connection.
//! - A produce call belongs to its connection's task. Dropping the call would not undo it, so no caller's future holds one.

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
    accumulator::{self, Accumulator, Action, Full, Wake},
    backoff::Backoff,
    error::Error,
    link::{Connector, LeaderClient, Partition},
    metrics::ProducerMetrics,
    record::Record,
};
use shared::{error_chain::ErrorChain, readiness::HealthCheck, tasks::Tasks};

/// The outcome of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryResult {
    /// All in-sync replicas have it.
    Acknowledged,
    /// Kafka refused it or was unreachable, or the connection broke. In the last case the log may have it.
    Failed,
    /// No acknowledgement in time. The log may have it; it is not sent again.
    Unknown,
}

/// Receives the outcome of records.
pub trait DeliveryCallback: Send + Sync + 'static {
    /// Identifies a record to the callback.
    type Token: std::fmt::Debug + Send + 'static;

    /// Called once for each record, by batch, from the connections' tasks: it must not block.
    fn on_delivery(&self, tokens: Vec<Self::Token>, result: DeliveryResult);
}

/// Why a record was not queued.
#[derive(Debug)]
pub enum SendError<T> {
    /// The producer is closed. Gives back what was to be sent.
    Closed(Record, T),
    /// The queue is full, no partition is reachable, and the caller does not wait for that.
    Unreachable(T),
}

/// Connections of a process to produce with: the measured optimum on a small machine, and a bound on a large one.
pub const MAX_PRODUCER_CONNECTIONS: usize = 4;

/// How long a connection waits for the batch target. The runtime's clock has steps of 1 ms, so up to 2 ms.
const LINGER: Duration = Duration::from_millis(1);

/// The largest batch target, in records. With more than twice as many requests in flight, batches grow without a linger.
const MAX_BATCH_TARGET: usize = 512;

/// A producer counts as unreachable after this long without an answered produce call. A leader election or an orderly
/// restart of a broker takes less.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(3);

/// Settings of a producer.
#[derive(Debug, Clone)]
pub struct ProducerSettings {
    /// The limit on connections. Each partition has at least one, and all partitions have the same number.
    pub connections: usize,
    /// The bound on the queue, in bytes of records.
    pub max_bytes: usize,
    /// For how long a record is sent again that Kafka does not acknowledge: readers may see duplicates, but no gap.
    /// With [`Duration::ZERO`] the producer sends each record once; rskafka itself repeats a write for 0.5 s when its
    /// connection breaks or the broker is not the leader.
    pub delivery_timeout: Duration,
    /// The number of requests in flight, each of which sends one record through this producer. A connection lingers until
    /// half of them are queued, at most 512. `None` turns the linger off: what is queued is sent at once.
    pub in_flight: Option<Gauge>,
}

/// A handle to a producer. Cheap to clone.
#[derive(Debug)]
pub struct Producer<C: DeliveryCallback> {
    shared: Arc<Shared<C>>,
}

#[derive(Debug)]
struct Shared<C: DeliveryCallback> {
    accumulator: Mutex<Accumulator<Entry<C::Token>>>,
    /// Wakes the connection of the same index.
    wakeups: RwLock<Vec<Arc<Notify>>>,
    /// The queue may have room, or the producer is closed or unreachable.
    room: Notify,
    /// The accumulator may be idle.
    idle: Notify,
    callback: C,
    /// Ready while a primary connection is connected.
    health_check: Option<HealthCheck>,
    outage: Mutex<Option<Outage>>,
    /// When a produce call was answered last.
    last_answer: Mutex<Option<Instant>>,
    metrics: ProducerMetrics,
    delivery_timeout: Duration,
    in_flight: Option<Gauge>,
    /// Nothing is sent again any more.
    abandoned: AtomicBool,
}

/// Failures since the last success.
#[derive(Debug)]
struct Outage {
    since: Instant,
    /// A produce call failed, so a new connection alone does not end the outage: the broker may accept connections and fail
    /// every batch.
    batch_failed: bool,
}

#[derive(Debug)]
struct Entry<T> {
    record: Record,
    token: T,
    /// When the delivery timeout began; `None` if nothing is sent again.
    queued_at: Option<Instant>,
}

type Batch<T> = accumulator::Batch<Entry<T>>;

// === impl Producer ===

impl<C: DeliveryCallback> Producer<C> {
    /// A producer without partitions. `health_check` is ready while one of its partitions is connected.
    pub fn new(
        settings: ProducerSettings,
        callback: C,
        health_check: impl Into<Option<HealthCheck>>,
        metrics: ProducerMetrics,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                accumulator: Mutex::new(Accumulator::new(settings.connections, settings.max_bytes)),
                wakeups: RwLock::default(),
                room: Notify::new(),
                idle: Notify::new(),
                callback,
                health_check: health_check.into(),
                outage: Mutex::new(None),
                last_answer: Mutex::new(None),
                metrics,
                delivery_timeout: settings.delivery_timeout,
                in_flight: settings.in_flight,
                abandoned: AtomicBool::new(false),
            }),
        }
    }

    /// Adds a partition to write to. Its connections are spawned on `tasks` and end after [`Producer::close`].
    pub fn add_partition(&self, tasks: &Tasks, partition: Partition) {
        self.add_connector(tasks, partition);
    }

    fn add_connector(&self, tasks: &Tasks, connector: impl Connector) {
        let connector = Arc::new(connector);
        let connections = {
            let mut accumulator = self.shared.accumulator.lock();
            let connections = accumulator.add_partition();
            let wakeups = connections.clone().map(|_| Arc::new(Notify::new()));
            // Under the lock of the accumulator, so that both have the same indices.
            self.shared.wakeups.write().extend(wakeups);
            connections
        };
        let primary = connections.start;
        for connection in connections {
            let is_primary = connection == primary;
            tasks.spawn(run_connection(
                Arc::clone(&self.shared),
                Arc::clone(&connector),
                connection,
                is_primary,
            ));
        }
    }

    /// Changes the limit on connections.
    pub fn set_max_connections(&self, connections: usize) {
        self.shared.accumulator.lock().set_max_connections(connections);
        self.shared.wake_all();
    }

    /// Queues a record without waiting.
    ///
    /// # Errors
    /// [`Full`], with the token, when the queue is full or closed.
    pub fn try_send(&self, record: Record, token: C::Token) -> Result<(), Full<C::Token>> {
        self.push(self.entry(record, token))
            .map_err(|Full(entry)| Full(entry.token))
    }

    /// Queues a record as soon as there is room. While the producer is unreachable it waits only if `keep_waiting` says so.
    /// Dropping the future loses this record and nothing else.
    ///
    /// # Errors
    /// [`SendError::Closed`] after [`Producer::close`], else [`SendError::Unreachable`].
    pub async fn send(
        &self,
        record: Record,
        token: C::Token,
        keep_waiting: impl Fn() -> bool,
    ) -> Result<(), SendError<C::Token>> {
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
            if self.is_unreachable() && !keep_waiting() {
                return Err(SendError::Unreachable(entry.token));
            }
            // Bounded, because an unreachable producer makes no room.
            let _ = timeout(UNREACHABLE_AFTER, room).await;
        }
    }

    /// Closes the queue, and waits up to `limit` until every record has its outcome. Returns whether all have.
    pub async fn close(&self, limit: Duration) -> bool {
        self.shared.accumulator.lock().close();
        self.shared.wake_all();
        self.shared.room.notify_waiters();
        let all_delivered = async {
            loop {
                let mut idle = std::pin::pin!(self.shared.idle.notified());
                idle.as_mut().enable();
                if self.shared.accumulator.lock().is_idle() {
                    return;
                }
                idle.await;
            }
        };
        timeout(limit, all_delivered).await.is_ok()
    }

    /// Whether a produce call was answered within the last 3 s.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        let last_answer = self.shared.last_answer.lock();
        last_answer.is_some_and(|answer| answer.elapsed() < UNREACHABLE_AFTER)
    }

    /// Whether every attempt of the last 3 s failed.
    fn is_unreachable(&self) -> bool {
        let outage = self.shared.outage.lock();
        outage
            .as_ref()
            .is_some_and(|outage| outage.since.elapsed() >= UNREACHABLE_AFTER)
    }

    /// Fails every queued record, and does not send again what is in flight.
    pub fn abandon(&self) {
        self.shared.abandoned.store(true, Ordering::Relaxed);
        self.shared.fail_queued();
    }

    fn entry(&self, record: Record, token: C::Token) -> Entry<C::Token> {
        let queued_at = (!self.shared.delivery_timeout.is_zero()).then(Instant::now);
        Entry {
            record,
            token,
            queued_at,
        }
    }

    fn push(&self, entry: Entry<C::Token>) -> Result<(), Full<Entry<C::Token>>> {
        let wake = self.shared.accumulator.lock().push(entry.record.size_bytes(), entry)?;
        self.shared.wake(wake);
        Ok(())
    }
}

impl<C: DeliveryCallback> Clone for Producer<C> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

/// Runs one connection: connects, sends batch after batch, and reconnects after a failure. Ends when the producer is
/// closed and empty.
async fn run_connection<C: DeliveryCallback, L: Connector>(
    shared: Arc<Shared<C>>,
    connector: Arc<L>,
    connection: usize,
    is_primary: bool,
) {
    let mut backoff = Backoff::default();
    let mut leader: Option<L::LeaderClient> = None;
    loop {
        let Some(connected) = &leader else {
            if !shared.wait_to_connect(connection).await {
                return;
            }
            match connector.connect().await {
                Ok(new) => {
                    if is_primary {
                        shared.on_connected();
                    }
                    leader = Some(new);
                }
                Err(error) => {
                    shared.on_failure(&error, false);
                    shared.fail_queued_unless_connected();
                    backoff.pause().await;
                }
            }
            continue;
        };
        let Some(batch) = shared.next_batch(connection, connected).await else {
            leader = None;
            continue;
        };
        match shared.send_batch(connected, batch).await {
            Ok(()) => {
                *shared.outage.lock() = None;
                *shared.last_answer.lock() = Some(Instant::now());
                backoff.reset();
            }
            Err((error, unsent)) => {
                shared.metrics.connection_failures.inc();
                leader = None;
                let wake = shared.accumulator.lock().on_disconnect(connection, unsent);
                shared.on_failure(&error, true);
                shared.wake(wake);
                if backoff.has_failed() {
                    shared.fail_queued_unless_connected();
                }
                backoff.pause_unless_first().await;
            }
        }
    }
}

// === impl Shared ===

impl<C: DeliveryCallback> Shared<C> {
    /// Waits until a disconnected connection should connect. Returns `false` when the producer is closed and has no batch
    /// for it.
    async fn wait_to_connect(&self, connection: usize) -> bool {
        loop {
            let (should_connect, wake, closed) = {
                let mut accumulator = self.accumulator.lock();
                let (should_connect, wake) = accumulator.should_connect(connection);
                (should_connect, wake, accumulator.is_closed())
            };
            self.wake(wake);
            if should_connect {
                return true;
            }
            if closed {
                self.idle.notify_waiters();
                return false;
            }
            self.woken(connection).await;
        }
    }

    /// The next batch of a connected connection. `None` when it should disconnect: the producer is closed and empty, or the
    /// limit on connections has fallen.
    async fn next_batch(&self, connection: usize, leader: &impl LeaderClient) -> Option<Batch<C::Token>> {
        loop {
            let (action, wake, closed) = {
                let mut accumulator = self.accumulator.lock();
                accumulator.set_batch_bytes(leader.batch_bytes());
                accumulator.set_batch_target(self.batch_target());
                let (action, wake) = accumulator.next_action(connection);
                (action, wake, accumulator.is_closed())
            };
            self.wake(wake);
            match action {
                Action::Send(batch) => {
                    self.room.notify_waiters();
                    return Some(batch);
                }
                Action::Linger => {
                    // Woken or not, it asks again.
                    let _ = timeout(LINGER, self.woken(connection)).await;
                }
                Action::Park if !closed => self.woken(connection).await,
                Action::Park | Action::Disconnect => {
                    self.idle.notify_waiters();
                    return None;
                }
            }
        }
    }

    /// How many queued records end a linger: half of the requests in flight. While one half is on its way to the service and
    /// back, the other half is queued. Up to three requests in flight never linger.
    fn batch_target(&self) -> usize {
        let in_flight = self.in_flight.as_ref().map_or(0, Gauge::get);
        usize::try_from(in_flight / 2).unwrap_or(0).min(MAX_BATCH_TARGET)
    }

    /// Sends a batch. On a failure of the connection it returns what is to be sent again.
    async fn send_batch(
        &self,
        leader: &impl LeaderClient,
        mut batch: Batch<C::Token>,
    ) -> Result<(), (Error, Batch<C::Token>)> {
        let may_retry = self.should_retry_batch(&batch);
        let records = batch
            .iter_mut()
            .map(|(_, entry)| {
                if may_retry {
                    entry.record.clone()
                } else {
                    entry.record.take()
                }
            })
            .collect();
        self.metrics.batches.inc();
        let error = match leader.produce(records).await {
            Ok(()) => {
                self.deliver(batch, DeliveryResult::Acknowledged);
                return Ok(());
            }
            Err(error) => error,
        };
        match error {
            Error::Refused(_) => {
                self.deliver(batch, DeliveryResult::Failed);
                tracing::warn!(error = %ErrorChain(&error), "records dropped");
                Ok(())
            }
            _ if may_retry && self.should_retry_batch(&batch) => Err((error, batch)),
            Error::TimedOut(_) => {
                self.deliver(batch, DeliveryResult::Unknown);
                Err((error, Vec::new()))
            }
            _ => {
                self.deliver(batch, DeliveryResult::Failed);
                Err((error, Vec::new()))
            }
        }
    }

    /// A batch is sent again as a whole, within the delivery timeout of its youngest record.
    fn should_retry_batch(&self, batch: &Batch<C::Token>) -> bool {
        batch.last().is_some_and(|(_, entry)| self.should_retry(entry))
    }

    fn should_retry(&self, entry: &Entry<C::Token>) -> bool {
        let is_in_time = |queued_at: Instant| queued_at.elapsed() < self.delivery_timeout;
        entry.queued_at.is_some_and(is_in_time) && !self.abandoned.load(Ordering::Relaxed)
    }

    fn deliver(&self, batch: Batch<C::Token>, result: DeliveryResult) {
        let tokens = batch.into_iter().map(|(_, entry)| entry.token).collect();
        self.callback.on_delivery(tokens, result);
    }

    fn on_connected(&self) {
        self.outage.lock().take_if(|outage| !outage.batch_failed);
        self.health_check.as_ref().inspect(|health_check| health_check.ready());
    }

    /// An attempt to connect failed, or a batch and its connection with it.
    fn on_failure(&self, error: &Error, batch_failed: bool) {
        if self.accumulator.lock().is_any_primary_connected() {
            return;
        }
        let outage = || Outage {
            since: Instant::now(),
            batch_failed,
        };
        self.outage.lock().get_or_insert_with(outage).batch_failed |= batch_failed;
        self.room.notify_waiters();
        if let Some(health_check) = &self.health_check {
            health_check.not_ready(&ErrorChain(error));
        }
    }

    /// Without any connection, records that are not sent again fail at once instead of waiting.
    fn fail_queued_unless_connected(&self) {
        if !self.accumulator.lock().is_any_connected() {
            self.fail_queued();
        }
    }

    fn fail_queued(&self) {
        // The oldest records are at the front.
        let failed = self.accumulator.lock().drain_while(|entry| !self.should_retry(entry));
        if !failed.is_empty() {
            let tokens = failed.into_iter().map(|entry| entry.token).collect();
            self.callback.on_delivery(tokens, DeliveryResult::Failed);
            self.room.notify_waiters();
        }
    }

    fn wake(&self, connection: Wake) {
        if let Some(wakeup) = connection.and_then(|connection| self.wakeup(connection)) {
            wakeup.notify_one();
        }
    }

    fn wake_all(&self) {
        for wakeup in self.wakeups.read().iter() {
            wakeup.notify_one();
        }
    }

    async fn woken(&self, connection: usize) {
        match self.wakeup(connection) {
            Some(wakeup) => wakeup.notified().await,
            None => std::future::pending().await,
        }
    }

    fn wakeup(&self, connection: usize) -> Option<Arc<Notify>> {
        self.wakeups.read().get(connection).cloned()
    }
}

#[cfg(test)]
mod tests;
