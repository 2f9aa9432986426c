//! Queues records, sends them in batches to one partition or evenly to several, and reports each record's delivery.
//!
//! - The [`accumulator`](super::accumulator) decides what is sent when. Here each connection is a task that reconnects after
//!   every failure.
//! - One batch is in flight per connection.
//! - A produce call belongs to its connection's task. Dropping the call would not undo it, so no caller's future holds one.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use prometheus_client::metrics::gauge::Gauge;
use shared::{readiness::HealthCheck, tasks::Tasks};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use self::{
    connection::run_connection,
    state::{Entry, Shared},
};
use crate::{
    accumulator::Full,
    leader::{Connector, Partition},
    metrics::ProducerMetrics,
    record::Record,
};

mod connection;
mod rejected_sizes;
mod state;

/// The outcome of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryResult {
    /// All in-sync replicas have it.
    Acknowledged,
    /// It was never written to a connection, or the broker did not append it for now: the log does not have it.
    NotSent,
    /// The broker refused it for good: the log does not have it.
    Refused,
    /// It was written to a connection, and there was no acknowledgement. The log may have it; it is not sent again.
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
    /// With [`Duration::ZERO`] a record is written to a connection once; only where the log surely does not have it, it is sent
    /// again.
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
            shared: Arc::new(Shared::new(settings, callback, health_check.into(), metrics)),
        }
    }

    /// Adds a partition to write to. Its connections are spawned on `tasks` and end after [`Producer::close`], or when
    /// the partition is removed.
    pub fn add_partition(&self, tasks: &Tasks, partition: Partition) {
        self.add_connector(tasks, partition.number(), partition);
    }

    /// Gives up a partition that the topic no longer has. Its connections end, and the other partitions get what is queued.
    pub fn remove_partition(&self, partition: i32) {
        self.shared.accumulator.lock().remove_partition(partition);
        self.shared.wake_all();
    }

    fn add_connector(&self, tasks: &Tasks, partition: i32, connector: impl Connector) {
        let connector = Arc::new(connector);
        let connections = {
            let mut accumulator = self.shared.accumulator.lock();
            let connections = accumulator.add_partition(partition);
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

    /// Queues a record without waiting. After `deadline` it is not sent any more.
    ///
    /// # Errors
    /// [`Full`], with record and token, when the queue is full or closed.
    pub fn try_send(
        &self,
        record: Record,
        token: C::Token,
        deadline: Option<Instant>,
    ) -> Result<(), Full<(Record, C::Token)>> {
        self.push(self.entry(record, token, deadline))
            .map_err(|Full(entry)| Full((entry.record, entry.token)))
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
        let mut entry = match self.push(self.entry(record, token, None)) {
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

    fn entry(&self, record: Record, token: C::Token, deadline: Option<Instant>) -> Entry<C::Token> {
        let queued_at = (!self.shared.delivery_timeout.is_zero()).then(Instant::now);
        Entry {
            record,
            token,
            deadline,
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

#[cfg(test)]
mod tests;
