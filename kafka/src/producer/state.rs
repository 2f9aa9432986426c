//! What the handles and the connections of a producer share: the queue, the outage, and how records end.

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
use tokio::{sync::Notify, time::Instant};

use super::{DeliveryCallback, DeliveryResult, ProducerSettings};
use crate::{
    accumulator::{self, Accumulator, Wake},
    error::Error,
    metrics::ProducerMetrics,
    record::Record,
};

/// The largest batch target, in records. With more than twice as many requests in flight, batches grow without a linger.
const MAX_BATCH_TARGET: usize = 512;

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
    pub(super) metrics: ProducerMetrics,
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

pub(super) type Batch<T> = accumulator::Batch<Entry<T>>;

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

    /// How many queued records end a linger: half of the requests in flight. While one half is on its way to the service and
    /// back, the other half is queued. Up to three requests in flight never linger.
    pub(super) fn batch_target(&self) -> usize {
        let in_flight = self.in_flight.as_ref().map_or(0, Gauge::get);
        usize::try_from(in_flight / 2).unwrap_or(0).min(MAX_BATCH_TARGET)
    }

    /// A batch is sent again as a whole, within the delivery timeout of its youngest record.
    pub(super) fn should_retry_batch(&self, batch: &Batch<C::Token>) -> bool {
        batch.last().is_some_and(|(_, entry)| self.should_retry(entry))
    }

    fn should_retry(&self, entry: &Entry<C::Token>) -> bool {
        let is_in_time = |queued_at: Instant| queued_at.elapsed() < self.delivery_timeout;
        entry.queued_at.is_some_and(is_in_time) && !self.abandoned.load(Ordering::Relaxed)
    }

    pub(super) fn deliver(&self, batch: Batch<C::Token>, result: DeliveryResult) {
        let tokens = batch.into_iter().map(|(_, entry)| entry.token).collect();
        self.callback.on_delivery(tokens, result);
    }

    /// Whether the outage is so short that a leader may just be moving.
    pub(super) fn is_outage_short(&self) -> bool {
        let outage = self.outage.lock();
        outage
            .as_ref()
            .is_none_or(|outage| outage.since.elapsed() < LEADER_CHANGE)
    }

    pub(super) fn on_connected(&self) {
        self.outage.lock().take_if(|outage| !outage.batch_failed);
        self.health_check.as_ref().inspect(|health_check| health_check.ready());
    }

    /// An attempt to connect failed, or a batch and its connection with it.
    pub(super) fn on_failure(&self, error: &Error, batch_failed: bool) {
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
    pub(super) fn fail_queued_unless_connected(&self, is_partition_missing: bool) {
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

    pub(super) async fn woken(&self, connection: usize) {
        match self.wakeup(connection) {
            Some(wakeup) => wakeup.notified().await,
            None => std::future::pending().await,
        }
    }

    fn wakeup(&self, connection: usize) -> Option<Arc<Notify>> {
        self.wakeups.read().get(connection).cloned()
    }
}
