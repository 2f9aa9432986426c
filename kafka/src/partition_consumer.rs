//! The consumer: follows one partition, hands whole batches on, and never ends.
//!
//! [`cursor`](super::cursor) decides what to ask; here is the connection it is asked on, and how it comes back.

use tokio::time::Instant;

use super::{
    backoff::Backoff,
    cursor::{Ask, Cursor, Start, Step},
    error::Error,
    link::{Connector, LeaderClient, Partition},
    metrics::ConsumerMetrics,
    record::ConsumedRecord,
};
use shared::{error_chain::ErrorChain, readiness::HealthCheck};

/// What an answer of the broker gave.
#[derive(Debug, PartialEq, Eq)]
pub struct ConsumerRecords {
    /// The records, in the order of their offsets; none if there were none, or only something to step over.
    pub records: Vec<ConsumedRecord>,
    /// The offset to read next. It goes back where another log has taken the place of the one that was read.
    pub position: i64,
    /// A fetch was answered, and what it says was the end of the log: nothing is in it that is not read.
    pub at_end: bool,
    /// When it was asked for. The answer is not older, although it may have been read long after it came.
    pub asked: Instant,
}

/// Reads a partition from a start on.
#[derive(Debug)]
#[expect(
    private_bounds,
    reason = "its tests script the connection; outside there is only `Partition`"
)]
pub struct PartitionConsumer<C: Connector = Partition> {
    connect: C,
    cursor: Cursor,
    link: Option<C::LeaderClient>,
    connected_before: bool,
    backoff: Backoff,
    health_check: HealthCheck,
    metrics: ConsumerMetrics,
}

// === impl PartitionConsumer ===

#[expect(private_bounds, reason = "as above")]
impl<C: Connector> PartitionConsumer<C> {
    /// A consumer of a partition; it connects when it is first asked. `health_check` is met while the start is fixed
    /// and the broker answers.
    #[must_use]
    pub fn new(connect: C, start: Start, health_check: HealthCheck, metrics: ConsumerMetrics) -> Self {
        Self {
            connect,
            cursor: Cursor::new(start, metrics.clone()),
            link: None,
            connected_before: false,
            backoff: Backoff::default(),
            health_check,
            metrics,
        }
    }

    /// Waits until the start is fixed: from then on, no record is missed. Cancelling loses nothing.
    pub async fn wait_for_start(&mut self) {
        while !self.cursor.is_resolved() {
            // Before the start is fixed there is nothing to hand on.
            self.advance().await;
        }
    }

    /// The offset to read next, once the start is fixed.
    #[must_use]
    pub fn position(&self) -> i64 {
        self.cursor.position()
    }

    /// Waits until the broker answers, which it does about twice a second when there is nothing to read. Cancelling loses
    /// nothing.
    pub async fn poll(&mut self) -> ConsumerRecords {
        loop {
            if let Some(batch) = self.advance().await {
                return batch;
            }
        }
    }

    /// One call, or one attempt at a connection.
    async fn advance(&mut self) -> Option<ConsumerRecords> {
        let Some(link) = &self.link else {
            self.reconnect().await;
            return None;
        };
        let asked = Instant::now();
        // The cursor moves only after the last await: a call that is dropped half-way changes nothing.
        let answer = match self.cursor.ask() {
            Ask::Offset(end) => link.offset(end).await.map(Answer::Offset),
            Ask::Fetch(offset, width) => link
                .fetch(offset, width)
                .await
                .map(|(records, end)| Answer::Records(records, end)),
        };
        let is_fetch = matches!(answer, Ok(Answer::Records(..)));
        let is_read = answer.is_ok();
        let step = match answer {
            Ok(Answer::Offset(offset)) => self.cursor.on_offset(offset),
            Ok(Answer::Records(records, end)) => self.cursor.on_records(records, end),
            Err(error) => match self.cursor.on_error(&error) {
                Step::Reconnect => {
                    self.fail(&error).await;
                    return None;
                }
                step => step,
            },
        };
        if step == Step::Reconnect {
            let cause = "answers cannot be read, and no record is the cause";
            self.fail(&Error::Failed(cause.into())).await;
            return None;
        }
        if is_read {
            self.backoff.reset();
        }
        if step == Step::Stalled {
            self.health_check.not_ready(&format_args!(
                "an open transaction of another producer at offset {}",
                self.cursor.position()
            ));
        } else if self.cursor.is_flowing() {
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
            asked,
        })
    }

    async fn reconnect(&mut self) {
        match self.connect.connect().await {
            Ok(link) => {
                self.link = Some(link);
                self.cursor.reconnected();
                if self.connected_before {
                    self.metrics.reconnects.inc();
                }
                self.connected_before = true;
            }
            Err(error) => {
                if matches!(error, Error::TopicMissing(_)) {
                    self.cursor.gone();
                }
                self.fail(&error).await;
            }
        }
    }

    async fn fail(&mut self, error: &Error) {
        self.link = None;
        self.health_check.not_ready(&ErrorChain(error));
        self.backoff.pause().await;
    }
}

impl<C: Connector> Drop for PartitionConsumer<C> {
    fn drop(&mut self) {
        self.metrics.retire();
    }
}

enum Answer {
    Offset(i64),
    Records(Vec<ConsumedRecord>, i64),
}

#[cfg(test)]
mod tests;
