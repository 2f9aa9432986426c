//! Consumes one partition: a poll loop over one connection to the leader, which reconnects after every failure.
//!
//! The [`cursor`](super::cursor) decides which request is next.

use tokio::time::Instant;

use super::{
    backoff::Backoff,
    cursor::{Cursor, Request, Start, Step},
    error::Error,
    link::{Connector, LeaderClient, Partition},
    metrics::ConsumerMetrics,
    record::ConsumedRecord,
};
use shared::{error_chain::ErrorChain, readiness::HealthCheck};

/// What one poll returned.
#[derive(Debug, PartialEq, Eq)]
pub struct ConsumerRecords {
    /// The records in the order of their offsets. Empty when the broker had none or the cursor only moved.
    pub records: Vec<ConsumedRecord>,
    /// The offset to fetch next. It goes back when the log was replaced by another.
    pub position: i64,
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
    Records(Vec<ConsumedRecord>, i64),
}

// === impl PartitionConsumer ===

#[expect(private_bounds, reason = "as above")]
impl<C: Connector> PartitionConsumer<C> {
    /// A consumer that connects at the first poll. `health_check` is ready while the start is fixed and the broker answers.
    #[must_use]
    pub fn new(connector: C, start: Start, health_check: HealthCheck, metrics: ConsumerMetrics) -> Self {
        Self {
            connector,
            cursor: Cursor::new(start, metrics.clone()),
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
        let Some(leader) = &self.leader else {
            self.reconnect().await;
            return None;
        };
        let requested_at = Instant::now();
        // The cursor moves only after the last await, so that a dropped future changes nothing.
        let response = match self.cursor.request() {
            Request::Offset(end) => leader.offset(end).await.map(Response::Offset),
            Request::Fetch(offset, size) => leader
                .fetch(offset, size)
                .await
                .map(|(records, high_watermark)| Response::Records(records, high_watermark)),
        };
        let is_fetch = matches!(response, Ok(Response::Records(..)));
        let is_ok = response.is_ok();
        let step = match response {
            Ok(Response::Offset(offset)) => self.cursor.on_offset(offset),
            Ok(Response::Records(records, high_watermark)) => self.cursor.on_records(records, high_watermark),
            Err(error) => match self.cursor.on_error(&error) {
                Step::Reconnect => {
                    self.on_failure(&error).await;
                    return None;
                }
                step => step,
            },
        };
        if step == Step::Reconnect {
            let cause = "answers cannot be read, and no record is the cause";
            self.on_failure(&Error::Failed(cause.into())).await;
            return None;
        }
        if is_ok {
            self.backoff.reset();
        }
        if step == Step::Stalled {
            self.health_check.not_ready(&format_args!(
                "an open transaction of another producer at offset {}",
                self.cursor.position()
            ));
        } else if self.cursor.is_healthy() {
            self.health_check.ready();
        }
        let lag = self.cursor.lag();
        self.metrics.lag.set(lag);
        let records = match step {
            Step::Deliver(records) => records,
            _ => Vec::new(),
        };
        let position = self.cursor.position();
        Some(ConsumerRecords {
            records,
            position,
            at_end: is_fetch && lag == 0,
            requested_at,
        })
    }

    async fn reconnect(&mut self) {
        match self.connector.connect().await {
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
