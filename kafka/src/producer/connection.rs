//! The tasks of a producer's connections: each connects, sends batch after batch, and connects again after a failure.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use shared::error_chain::ErrorChain;
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    DeliveryCallback, DeliveryResult,
    rejected_sizes::RejectedSizes,
    state::{Batch, Entry, Shared},
};
use crate::{
    accumulator::Action,
    backoff::Backoff,
    cluster::Operation,
    error::Error,
    leader::{Connector, LeaderClient, MAX_BATCH_BYTES},
    record_batch,
};

/// How long a connection waits for the batch target. The runtime's clock has steps of 1 ms, so up to 2 ms.
pub(super) const LINGER: Duration = Duration::from_millis(1);

/// How often an idle connection is probed: a flow that a NAT has forgotten, or a broker that is gone without a word, is known
/// before a caller meets it.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(2);

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

    /// Sends a batch, in halves where the broker refuses it as a whole, down to the record that it refuses. On a failure of the
    /// connection it returns what is to be sent again.
    async fn send_batch(
        &self,
        leader: &mut impl LeaderClient,
        batch: Batch<C::Token>,
    ) -> Result<(), (Error, Batch<C::Token>)> {
        // The parts that are left, the next one last.
        let mut parts = vec![batch];
        let mut rejected = RejectedSizes::default();
        while let Some(mut part) = parts.pop() {
            self.metrics.batches.inc();
            let Err(error) = leader.produce(encoded(&part)).await else {
                self.deliver(part, DeliveryResult::Acknowledged);
                continue;
            };
            match error {
                Error::TooLarge { .. } | Error::Refused { .. } if part.len() > 1 => {
                    if matches!(error, Error::TooLarge { .. }) {
                        rejected.add(part.iter().map(|(bytes, _)| *bytes));
                    }
                    let second = part.split_off(part.len() / 2);
                    parts.push(second);
                    parts.push(part);
                }
                Error::TooLarge { .. } | Error::Refused { .. } => {
                    if matches!(error, Error::TooLarge { .. }) {
                        rejected.add(part.iter().map(|(bytes, _)| *bytes));
                    }
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
        if let Some(batch_bytes) = rejected.batch_bytes() {
            // Until the next connection: the limit may be raised meanwhile.
            self.accumulator.lock().set_batch_bytes(batch_bytes);
        }
        Ok(())
    }
}
