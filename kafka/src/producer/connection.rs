//! The tasks of a producer's connections, and the state that they share with its handles.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use prometheus_client::metrics::gauge::Gauge;
use shared::{error_chain::ErrorChain, readiness::HealthCheck};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};

use super::{DeliveryCallback, DeliveryResult, ProducerSettings};
use crate::{
    accumulator::{self, Accumulator, Action, Wake},
    backoff::Backoff,
    cluster::Operation,
    error::Error,
    leader::{Connector, LeaderClient, MAX_BATCH_BYTES},
    metrics::ProducerMetrics,
    record::Record,
    record_batch,
};

/// How long a connection waits for the batch target. The runtime's clock has steps of 1 ms, so up to 2 ms.
pub(super) const LINGER: Duration = Duration::from_millis(1);

/// The largest batch target, in records. With more than twice as many requests in flight, batches grow without a linger.
const MAX_BATCH_TARGET: usize = 512;

/// How often an idle connection is probed: a flow that a NAT has forgotten, or a broker that is gone without a word, is known
/// before a caller meets it.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(2);

/// For so long records that the log surely does not have wait for a new leader.
const LEADER_CHANGE: Duration = Duration::from_millis(500);

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
    /// It is not sent after this.
    pub(super) deadline: Option<Instant>,
    /// When the delivery timeout began; `None` if nothing is sent again.
    pub(super) queued_at: Option<Instant>,
}

type Batch<T> = accumulator::Batch<Entry<T>>;

/// Runs one connection: connects, sends batch after batch, and reconnects after a failure. Ends when the producer is
/// closed and empty, or its partition is removed.
pub(super) async fn run_connection<C: DeliveryCallback, L: Connector>(
    shared: Arc<Shared<C>>,
    connector: Arc<L>,
    connection: usize,
    is_primary: bool,
) {
    let mut backoff = Backoff::default();
    let mut leader: Option<L::LeaderClient> = None;
    loop {
        let Some(connected) = &mut leader else {
            if !shared.wait_to_connect(connection).await {
                return;
            }
            match connector.connect(Operation::Write).await {
                Ok(new) => {
                    shared.accumulator.lock().set_batch_bytes(MAX_BATCH_BYTES);
                    if is_primary {
                        shared.on_connected();
                    }
                    leader = Some(new);
                }
                Err(error) => {
                    shared.on_failure(&error, false);
                    // Twice, because a broker may learn late of a partition that was added.
                    let is_missing = matches!(error, Error::PartitionMissing { .. }) && backoff.has_failed();
                    shared.fail_queued_unless_connected(is_missing);
                    backoff.pause().await;
                }
            }
            continue;
        };
        let sent = match shared.next_batch(connection, connected).await {
            Ok(Some(batch)) => shared.send_batch(connected, batch).await,
            Ok(None) => {
                leader = None;
                continue;
            }
            Err(error) => Err((error, Vec::new())),
        };
        match sent {
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
                if backoff.has_failed() && !(error.is_not_written() && shared.is_outage_short()) {
                    shared.fail_queued_unless_connected(false);
                }
                backoff.pause_unless_first().await;
            }
        }
    }
}

/// The batch as the broker takes it.
fn encoded<T>(batch: &Batch<T>) -> Bytes {
    record_batch::encode(batch.iter().map(|(_, entry)| entry.record.to_write()), bytes(batch)).into()
}

fn bytes<T>(batch: &Batch<T>) -> usize {
    batch.iter().map(|(bytes, _)| bytes).sum()
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
    /// for it, or when its partition is removed.
    async fn wait_to_connect(&self, connection: usize) -> bool {
        loop {
            let (should_connect, wake, has_ended) = {
                let mut accumulator = self.accumulator.lock();
                let (should_connect, wake) = accumulator.should_connect(connection);
                (should_connect, wake, accumulator.has_ended(connection))
            };
            self.wake(wake);
            if should_connect {
                return true;
            }
            if has_ended {
                self.idle.notify_waiters();
                return false;
            }
            self.woken(connection).await;
        }
    }

    /// The next batch of a connected connection. `None` when it should disconnect: the producer is closed and empty, its
    /// partition is removed, or the limit on connections has fallen. While there is none it probes whether the broker still answers.
    async fn next_batch(
        &self,
        connection: usize,
        leader: &mut impl LeaderClient,
    ) -> Result<Option<Batch<C::Token>>, Error> {
        loop {
            if let Some(until) = leader.throttled_until() {
                sleep_until(until).await;
            }
            let (action, wake, closed) = {
                let mut accumulator = self.accumulator.lock();
                accumulator.set_batch_target(self.batch_target());
                let (action, wake) = accumulator.next_action(connection);
                (action, wake, accumulator.is_closed())
            };
            self.wake(wake);
            match action {
                Action::Send(batch) => {
                    self.room.notify_waiters();
                    let batch = self.without_expired(batch);
                    if !batch.is_empty() {
                        return Ok(Some(batch));
                    }
                }
                Action::Linger => {
                    // Woken or not, it asks again.
                    let _ = timeout(LINGER, self.woken(connection)).await;
                }
                Action::Park if !closed => {
                    if timeout(PROBE_INTERVAL, self.woken(connection)).await.is_err() {
                        leader.probe().await?;
                    }
                }
                Action::Park | Action::Disconnect => {
                    self.idle.notify_waiters();
                    return Ok(None);
                }
            }
        }
    }

    /// Takes out the records whose deadline is over: what is executed after it is of no use.
    fn without_expired(&self, batch: Batch<C::Token>) -> Batch<C::Token> {
        let now = Instant::now();
        let is_expired = |(_, entry): &(usize, Entry<C::Token>)| entry.deadline.is_some_and(|deadline| deadline <= now);
        if !batch.iter().any(is_expired) {
            return batch;
        }
        let (expired, batch) = batch.into_iter().partition(is_expired);
        self.deliver(expired, DeliveryResult::NotSent);
        batch
    }

    /// How many queued records end a linger: half of the requests in flight. While one half is on its way to the service and
    /// back, the other half is queued. Up to three requests in flight never linger.
    pub(super) fn batch_target(&self) -> usize {
        let in_flight = self.in_flight.as_ref().map_or(0, Gauge::get);
        usize::try_from(in_flight / 2).unwrap_or(0).min(MAX_BATCH_TARGET)
    }

    /// Sends a batch, in halves where the broker refuses it as a whole, down to the record that it refuses. On a failure of the
    /// connection it returns what is to be sent again.
    async fn send_batch(
        &self,
        leader: &mut impl LeaderClient,
        batch: Batch<C::Token>,
    ) -> Result<(), (Error, Batch<C::Token>)> {
        // The parts that are left, the next one last.
        let mut parts = vec![batch];
        while let Some(mut part) = parts.pop() {
            self.metrics.batches.inc();
            let Err(error) = leader.produce(encoded(&part)).await else {
                self.deliver(part, DeliveryResult::Acknowledged);
                continue;
            };
            match error {
                Error::TooLarge { .. } | Error::Refused { .. } if part.len() > 1 => {
                    let second = part.split_off(part.len() / 2);
                    if matches!(error, Error::TooLarge { .. }) {
                        // Until the next connection: the limit may be raised meanwhile.
                        self.accumulator.lock().set_batch_bytes(bytes(&part));
                    }
                    parts.push(second);
                    parts.push(part);
                }
                Error::TooLarge { .. } | Error::Refused { .. } => {
                    self.deliver(part, DeliveryResult::Refused);
                    tracing::warn!(error = %ErrorChain(&error), "record dropped");
                }
                Error::TopicDenied { .. } => {
                    parts.push(part);
                    parts
                        .into_iter()
                        .for_each(|part| self.deliver(part, DeliveryResult::Refused));
                    return Err((error, Vec::new()));
                }
                error => {
                    if error.is_not_written() || self.should_retry_batch(&part) {
                        parts.push(part);
                    } else {
                        self.deliver(part, DeliveryResult::Unknown);
                    }
                    return Err((error, parts.into_iter().rev().flatten().collect()));
                }
            }
        }
        Ok(())
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

    /// Whether the outage is so short that a leader may just be moving.
    fn is_outage_short(&self) -> bool {
        let outage = self.outage.lock();
        outage
            .as_ref()
            .is_none_or(|outage| outage.since.elapsed() < LEADER_CHANGE)
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

    /// Without any connection, records that are not sent again fail at once instead of waiting. So do all records where the
    /// partition is missing.
    fn fail_queued_unless_connected(&self, is_partition_missing: bool) {
        if !self.accumulator.lock().is_any_connected() {
            self.fail_queued_while(|entry| is_partition_missing || !self.should_retry(entry));
        }
    }

    pub(super) fn fail_queued(&self) {
        self.fail_queued_while(|entry| !self.should_retry(entry));
    }

    fn fail_queued_while(&self, predicate: impl Fn(&Entry<C::Token>) -> bool) {
        // The oldest records are at the front.
        let failed = self.accumulator.lock().drain_while(predicate);
        if !failed.is_empty() {
            let tokens = failed.into_iter().map(|entry| entry.token).collect();
            self.callback.on_delivery(tokens, DeliveryResult::NotSent);
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
