//! The tasks of a producer's connections, and the state that they share with its handles.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use prometheus_client::metrics::gauge::Gauge;
use shared::{error_chain::ErrorChain, readiness::HealthCheck};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{DeliveryCallback, DeliveryResult, ProducerSettings};
use crate::{
    accumulator::{self, Accumulator, Action, Wake},
    backoff::Backoff,
    error::Error,
    link::{Connector, LeaderClient},
    metrics::ProducerMetrics,
    record::Record,
};

/// How long a connection waits for the batch target. The runtime's clock has steps of 1 ms, so up to 2 ms.
pub(super) const LINGER: Duration = Duration::from_millis(1);

/// The largest batch target, in records. With more than twice as many requests in flight, batches grow without a linger.
const MAX_BATCH_TARGET: usize = 512;

#[derive(Debug)]
pub(super) struct Shared<C: DeliveryCallback> {
    pub(super) accumulator: Mutex<Accumulator<Entry<C::Token>>>,
    /// Wakes the connection of the same index.
    pub(super) wakeups: RwLock<Vec<Arc<Notify>>>,
    /// The queue may have room, or the producer is closed or unreachable.
    pub(super) room: Notify,
    /// The accumulator may be idle.
    pub(super) idle: Notify,
    callback: C,
    /// Ready while a primary connection is connected.
    health_check: Option<HealthCheck>,
    pub(super) outage: Mutex<Option<Outage>>,
    /// When a produce call was answered last.
    pub(super) last_answer: Mutex<Option<Instant>>,
    metrics: ProducerMetrics,
    pub(super) delivery_timeout: Duration,
    in_flight: Option<Gauge>,
    /// Nothing is sent again any more.
    pub(super) abandoned: AtomicBool,
}

/// Failures since the last success.
#[derive(Debug)]
pub(super) struct Outage {
    pub(super) since: Instant,
    /// A produce call failed, so a new connection alone does not end the outage: the broker may accept connections and fail
    /// every batch.
    batch_failed: bool,
}

#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) record: Record,
    pub(super) token: T,
    /// When the delivery timeout began; `None` if nothing is sent again.
    pub(super) queued_at: Option<Instant>,
}

type Batch<T> = accumulator::Batch<Entry<T>>;

/// Runs one connection: connects, sends batch after batch, and reconnects after a failure. Ends when the producer is
/// closed and empty.
pub(super) async fn run_connection<C: DeliveryCallback, L: Connector>(
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
    pub(super) fn new(
        settings: ProducerSettings,
        callback: C,
        health_check: Option<HealthCheck>,
        metrics: ProducerMetrics,
    ) -> Self {
        Self {
            accumulator: Mutex::new(Accumulator::new(settings.connections, settings.max_bytes)),
            wakeups: RwLock::default(),
            room: Notify::new(),
            idle: Notify::new(),
            callback,
            health_check,
            outage: Mutex::new(None),
            last_answer: Mutex::new(None),
            metrics,
            delivery_timeout: settings.delivery_timeout,
            in_flight: settings.in_flight,
            abandoned: AtomicBool::new(false),
        }
    }

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
    pub(super) fn batch_target(&self) -> usize {
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

    pub(super) fn fail_queued(&self) {
        // The oldest records are at the front.
        let failed = self.accumulator.lock().drain_while(|entry| !self.should_retry(entry));
        if !failed.is_empty() {
            let tokens = failed.into_iter().map(|entry| entry.token).collect();
            self.callback.on_delivery(tokens, DeliveryResult::Failed);
            self.room.notify_waiters();
        }
    }

    pub(super) fn wake(&self, connection: Wake) {
        if let Some(wakeup) = connection.and_then(|connection| self.wakeup(connection)) {
            wakeup.notify_one();
        }
    }

    pub(super) fn wake_all(&self) {
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
