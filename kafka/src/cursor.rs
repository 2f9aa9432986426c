//! Holds the position of a partition consumer and decides its next request: a state machine without I/O.
//!
//! - The position moves only past a record that was delivered, or that was skipped and counted.
//! - A full fetch that fails moves nothing: there may be good records before the bad one.
//! - Nothing is skipped behind an open transaction.
//!
//! Three things make it more than a counter. rskafka fails a whole fetch for one record that it cannot decode. An empty
//! answer has three possible causes. And a topic can be replaced by another of the same name.

use tracing::{info, warn};

use super::{
    error::Error,
    link::{End, FetchSize},
    metrics::ConsumerMetrics,
    record::ConsumedRecord,
};
use shared::{error_chain::ErrorChain, log_limiter::LogLimiter};

/// Where a consumer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Behind the last record of the log at the first contact.
    Latest,
    /// At the first record of the log.
    Earliest,
    /// At this offset, or at the first record if the offset is outside the log.
    At(i64),
}

/// A request to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    Offset(End),
    Fetch(i64, FetchSize),
}

/// What follows from a response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Deliver these records; at least one.
    Deliver(Vec<ConsumedRecord>),
    /// Send the next request.
    Again,
    /// An open transaction of another producer holds everything back.
    Stalled,
    /// Send the next request on a new connection.
    Reconnect,
}

/// A position in one partition.
#[derive(Debug)]
pub(crate) struct Cursor {
    start: Start,
    state: State,
    /// The offset to fetch next; meaningless while `state` is [`State::Unresolved`].
    position: i64,
    high_watermark: i64,
    /// Offset and timestamp of the last delivered record. Another record there means another log.
    last: Option<(i64, i64)>,
    /// For batches that cannot be decoded.
    log_limiter: LogLimiter,
    metrics: ConsumerMetrics,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The start offset is not known yet.
    Unresolved,
    /// Fetches as much as there is.
    Reading,
    /// A full fetch could not be decoded: batch by batch up to the bad one.
    ReadingByBatch,
    /// Inside a batch that cannot be decoded: offset by offset to its end.
    Skipping,
    /// As [`State::Skipping`] at the known end of the log: looks up whether there is something to skip.
    AtEnd,
    /// A fetch before the high watermark was empty: looks up whether a transaction is open.
    BehindTransaction,
    /// No transaction is open: if the next fetch is empty too, this offset is a transaction marker or a hole.
    Confirming,
    /// The position is outside the log.
    OutOfRange,
    /// The connection is new, or the log looks shorter: compares the last delivered record. Or the start offset is given:
    /// checks whether the log has it.
    Verifying,
}

// === impl Cursor ===

impl Cursor {
    pub(crate) fn new(start: Start, metrics: ConsumerMetrics) -> Self {
        let (state, position) = match start {
            Start::At(offset) => (State::Verifying, offset),
            Start::Latest | Start::Earliest => (State::Unresolved, 0),
        };
        Self {
            start,
            state,
            position,
            high_watermark: 0,
            last: None,
            log_limiter: LogLimiter::default(),
            metrics,
        }
    }

    /// Whether the start offset is fixed. From then on no record is missed.
    pub(crate) fn is_resolved(&self) -> bool {
        self.state != State::Unresolved
    }

    /// Whether no irregularity is being looked into.
    pub(crate) fn is_healthy(&self) -> bool {
        matches!(self.state, State::Reading | State::ReadingByBatch | State::Skipping)
    }

    pub(crate) fn position(&self) -> i64 {
        self.position
    }

    /// How many records of the log are not fetched yet, as of the last response.
    pub(crate) fn lag(&self) -> i64 {
        (self.high_watermark - self.position).max(0)
    }

    pub(crate) fn request(&self) -> Request {
        match (self.state, self.last) {
            (State::Unresolved, _) => Request::Offset(match self.start {
                Start::Latest => End::Latest,
                // [`Start::At`] is never unresolved.
                Start::Earliest | Start::At(_) => End::Earliest,
            }),
            (State::Verifying, Some((offset, _))) => Request::Fetch(offset, FetchSize::SingleBatch),
            (State::Reading, _) => Request::Fetch(self.position, FetchSize::Full),
            // Nothing was delivered yet. A fetch that does not wait shows whether the offset is in the log.
            (State::Verifying, None) | (State::ReadingByBatch | State::Skipping | State::Confirming, _) => {
                Request::Fetch(self.position, FetchSize::SingleBatch)
            }
            (State::BehindTransaction | State::AtEnd, _) => Request::Offset(End::Latest),
            (State::OutOfRange, _) => Request::Offset(End::Earliest),
        }
    }

    /// A new connection, behind which there may be another log.
    pub(crate) fn on_connected(&mut self) {
        if self.is_resolved() && self.last.is_some() {
            self.state = State::Verifying;
        }
    }

    /// The topic does not exist. A topic that returns under its name is a new log, to be read from the beginning. If a record
    /// was delivered, [`State::Verifying`] finds that out; without one it is assumed.
    pub(crate) fn on_topic_missing(&mut self) {
        if self.is_resolved() && self.last.is_none() {
            info!("the topic was deleted; a new one will be read from the beginning");
            self.start = Start::Earliest;
            self.state = State::Unresolved;
        }
    }

    /// An offset was looked up.
    pub(crate) fn on_offset(&mut self, offset: i64) -> Step {
        match self.state {
            State::BehindTransaction if offset > self.position => {
                self.state = State::Confirming;
                Step::Again
            }
            State::BehindTransaction => {
                self.state = State::Reading;
                self.metrics.stalls.inc();
                Step::Stalled
            }
            State::AtEnd if offset > self.position => {
                self.high_watermark = offset;
                self.state = State::Skipping;
                Step::Again
            }
            // No record is the cause, so the broker or the network is.
            State::AtEnd => {
                self.state = State::Reading;
                Step::Reconnect
            }
            State::OutOfRange => {
                let lost = u64::try_from(offset - self.position).unwrap_or(0);
                warn!(from = self.position, to = offset, lost, "the position left the log");
                self.metrics.lost.inc_by(lost);
                self.start_at(offset)
            }
            _ => self.start_at(offset),
        }
    }

    /// A fetch was answered, with the records and the high watermark.
    pub(crate) fn on_records(&mut self, records: Vec<ConsumedRecord>, high_watermark: i64) -> Step {
        if self.state == State::Verifying
            && let Some(last) = self.last
        {
            self.high_watermark = high_watermark;
            let found = records.iter().find(|record| record.offset() == last.0);
            if found.is_some_and(|record| record.timestamp_ms() != last.1) {
                warn!(
                    offset = last.0,
                    "the topic was recreated; it is read from the beginning"
                );
                self.state = State::OutOfRange;
            } else {
                self.state = State::Reading;
            }
            return Step::Again;
        }
        let shrunk = high_watermark < self.high_watermark;
        self.high_watermark = high_watermark;
        match records.last() {
            Some(last) => {
                self.position = last.offset() + 1;
                self.last = Some((last.offset(), last.timestamp_ms()));
                if self.state != State::ReadingByBatch {
                    self.state = State::Reading;
                }
                Step::Deliver(records)
            }
            None if high_watermark > self.position => {
                if self.state == State::Confirming {
                    // A transaction marker, or a hole from compaction.
                    self.position += 1;
                    self.state = State::Reading;
                } else {
                    self.state = State::BehindTransaction;
                }
                Step::Again
            }
            None => {
                self.state = if shrunk { State::Verifying } else { State::Reading };
                Step::Again
            }
        }
    }

    /// A request failed.
    pub(crate) fn on_error(&mut self, error: &Error) -> Step {
        match error {
            Error::OutOfRange if self.is_resolved() => {
                self.state = match self.state {
                    // The last delivered record was deleted. The next fetch shows whether the position is in the log.
                    State::Verifying => State::Reading,
                    _ => State::OutOfRange,
                };
                Step::Again
            }
            Error::Undecodable(_) if self.is_resolved() => {
                self.state = match self.state {
                    State::ReadingByBatch | State::Skipping | State::Confirming
                        if self.position >= self.high_watermark =>
                    {
                        State::AtEnd
                    }
                    State::ReadingByBatch | State::Skipping | State::Confirming => {
                        if self.state != State::Skipping
                            && let Some(suppressed) = self.log_limiter.allow()
                        {
                            warn!(offset = self.position, error = %ErrorChain(error), suppressed, "skipping a batch");
                        }
                        self.position += 1;
                        self.metrics.skipped.inc();
                        State::Skipping
                    }
                    State::Verifying => State::Reading,
                    _ => State::ReadingByBatch,
                };
                Step::Again
            }
            _ => Step::Reconnect,
        }
    }

    fn start_at(&mut self, offset: i64) -> Step {
        self.position = offset;
        self.state = State::Reading;
        self.last = None;
        Step::Again
    }
}

#[cfg(test)]
mod tests;
