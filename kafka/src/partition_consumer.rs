//! Consumes one partition: a poll loop over one connection to the leader, which reconnects after every failure.
//!
//! The [`cursor`](super::cursor) decides which request is next.

use shared::{error_chain::ErrorChain, readiness::HealthCheck};
use tokio::time::Instant;

use crate::{
    backoff::Backoff,
    cluster::Operation,
    consumed_record::ConsumedRecord,
    cursor::{Cursor, Request, Start, Step, WhenHeldFull},
    error::Error,
    leader::{Connector, Fetched, LeaderClient, Partition},
    metrics::ConsumerMetrics,
};

/// What one poll returned.
#[derive(Debug, PartialEq, Eq)]
pub struct ConsumerRecords {
    /// The records. Those of a transaction come when it is committed, behind others with higher offsets. Empty when the broker
    /// had none or the cursor only moved.
    pub records: Vec<ConsumedRecord>,
    /// The offset to fetch next. It goes back when the log was replaced by another.
    pub position: i64,
    /// The lowest offset below `position` that is held back, as a part of an open transaction.
    pub held_from: Option<i64>,
    /// A fetch was answered, and nothing behind `position` was in the log at that time.
    pub at_end: bool,
    /// When the request was sent: the answer is not older, however long it waited in the socket.
    pub requested_at: Instant,
}

/// A consumer of one partition.
#[derive(Debug)]
#[expect(
    private_bounds,
    reason = "unit tests script the connection; other crates use `Partition`"
)]
pub struct PartitionConsumer<C: Connector = Partition> {
    connector: C,
    cursor: Cursor,
    leader: Option<C::LeaderClient>,
    has_connected: bool,
    backoff: Backoff,
    health_check: HealthCheck,
    metrics: ConsumerMetrics,
}

enum Response {
    Offset(i64),
    Fetched(Fetched),
}

// === impl PartitionConsumer ===

#[expect(private_bounds, reason = "as above")]
impl<C: Connector> PartitionConsumer<C> {
    /// A consumer that connects at the first poll. `health_check` is ready while the start is fixed and the broker answers.
    #[must_use]
    pub fn new(
        connector: C,
        start: Start,
        when_full: WhenHeldFull,
        health_check: HealthCheck,
        metrics: ConsumerMetrics,
    ) -> Self {
        Self {
            connector,
            cursor: Cursor::new(start, when_full, metrics.clone()),
            leader: None,
            has_connected: false,
            backoff: Backoff::default(),
            health_check,
            metrics,
        }
    }

    /// Waits until the start offset is fixed. From then on no record is missed. Cancel safe.
    pub async fn wait_for_start(&mut self) {
        while !self.cursor.is_resolved() {
            // No records are fetched before the start is fixed.
            self.step().await;
        }
    }

    /// The offset to fetch next, once the start is fixed.
    #[must_use]
    pub fn position(&self) -> i64 {
        self.cursor.position()
    }

    /// Waits for the broker's next answer: with records at once, without records every 0.5 s. Cancel safe.
    pub async fn poll(&mut self) -> ConsumerRecords {
        loop {
            if let Some(records) = self.step().await {
                return records;
            }
        }
    }

    /// One request, or one attempt to connect.
    async fn step(&mut self) -> Option<ConsumerRecords> {
        // One whose call was dropped half-way is not: the next call would wait behind its answer.
        let Some(leader) = self.leader.as_mut().filter(|leader| leader.is_usable()) else {
            self.leader = None;
            self.reconnect().await;
            return None;
        };
        let requested_at = Instant::now();
        // The cursor moves only after the last await. A dropped future leaves a connection that cannot be used again.
        let response = match self.cursor.request() {
            Request::Offset(end) => leader.offset(end).await.map(Response::Offset),
            Request::Fetch(offset, size, isolation) => {
                leader.fetch(offset, size, isolation).await.map(Response::Fetched)
            }
        };
        let is_fetch = matches!(response, Ok(Response::Fetched(_)));
        if response.is_ok() {
            self.backoff.reset();
        }
        let records = match response {
            Ok(Response::Offset(offset)) => {
                self.cursor.on_offset(offset);
                Vec::new()
            }
            Ok(Response::Fetched(fetched)) => self.cursor.on_fetched(fetched),
            Err(error) => match self.cursor.on_error(&error) {
                Step::Deliver(records) => records,
                Step::Reconnect => {
                    self.on_failure(&error).await;
                    return None;
                }
            },
        };
        match self.cursor.problem() {
            Some(problem) => self.health_check.not_ready(&problem),
            None if self.cursor.is_reading() => self.health_check.ready(),
            None => {}
        }
        let lag = self.cursor.lag();
        self.metrics.lag.set(lag);
        Some(ConsumerRecords {
            records,
            position: self.cursor.position(),
            held_from: self.cursor.held_from(),
            at_end: is_fetch && lag == 0,
            requested_at,
        })
    }

    async fn reconnect(&mut self) {
        match self.connector.connect(Operation::Read).await {
            Ok(leader) => {
                self.leader = Some(leader);
                self.cursor.on_connected();
                if self.has_connected {
                    self.metrics.reconnects.inc();
                }
                self.has_connected = true;
            }
            Err(error) => {
                if matches!(error, Error::TopicMissing(_)) {
                    self.cursor.on_topic_missing();
                }
                self.on_failure(&error).await;
            }
        }
    }

    async fn on_failure(&mut self, error: &Error) {
        self.leader = None;
        self.health_check.not_ready(&ErrorChain(error));
        self.backoff.pause().await;
    }
}

impl<C: Connector> Drop for PartitionConsumer<C> {
    fn drop(&mut self) {
        self.metrics.remove_lag();
    }
}

#[cfg(test)]
mod tests;
