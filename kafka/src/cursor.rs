//! Where a tail is in its log, and what it asks next: a state machine without any I/O.
//!
//! - The position moves only past a record that was handed on, or that was skipped and counted.
//! - A wide fetch that fails moves nothing: there may be good records before the bad one.
//! - Nothing is skipped behind an open transaction.
//!
//! What makes it more than a counter: the client fails a whole fetch for one record that it cannot decode, an
//! empty answer has three possible causes, and a topic can be replaced by another of the same name.

use tracing::{info, warn};

use super::{
    error::Error,
    link::{End, FetchSize},
    metrics::ConsumerMetrics,
    record::ConsumedRecord,
};
use shared::{error_chain::ErrorChain, log_limiter::LogLimiter};

/// Where a tail begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Behind the last record there is at the first contact.
    Latest,
    /// At the first record there is.
    Earliest,
    /// At this offset; at the first record there is if the log does not have it any more, or not yet.
    At(i64),
}

/// What to ask the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Offset(End),
    Fetch(i64, FetchSize),
}

/// What an answer leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Hand these on; there is at least one.
    Deliver(Vec<ConsumedRecord>),
    /// Ask again.
    Again,
    /// An open transaction of another producer holds everything back.
    Stalled,
    /// Ask again on a new connection.
    Reconnect,
}

/// A position in one partition.
#[derive(Debug)]
pub(crate) struct Cursor {
    start: Start,
    state: State,
    /// The offset to read next; meaningless while `state` is [`State::Unresolved`].
    position: i64,
    high_watermark: i64,
    /// Offset and timestamp of the last record handed on: another record there means another log.
    last: Option<(i64, i64)>,
    /// About batches that cannot be decoded.
    log_limiter: LogLimiter,
    metrics: ConsumerMetrics,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The start is not known yet.
    Unresolved,
    /// Nothing special.
    Reading,
    /// A wide fetch could not be decoded: batch by batch up to the bad one.
    ReadingByBatch,
    /// Inside a batch that cannot be decoded: offset by offset to its end.
    Skipping,
    /// As [`State::Skipping`], but as far as is known this is the end of the log: is there something to skip?
    AtEnd,
    /// An empty answer although there is something: is it an open transaction?
    BehindTransaction,
    /// It is none: if the answer stays empty, there is nothing for us at this offset.
    Confirming,
    /// The position is outside the log.
    OutOfRange,
    /// The connection is new, or the log looks shorter: is it still the same log? Or the position comes from elsewhere: is it
    /// in the log?
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

    /// Whether the start is fixed: from then on no record is missed.
    pub(crate) fn is_resolved(&self) -> bool {
        self.state != State::Unresolved
    }

    /// Whether nothing unusual is being looked into.
    pub(crate) fn is_flowing(&self) -> bool {
        matches!(self.state, State::Reading | State::ReadingByBatch | State::Skipping)
    }

    pub(crate) fn position(&self) -> i64 {
        self.position
    }

    /// How many records of the log are not read yet, as of the last answer.
    pub(crate) fn lag(&self) -> i64 {
        (self.high_watermark - self.position).max(0)
    }

    pub(crate) fn ask(&self) -> Ask {
        match (self.state, self.last) {
            (State::Unresolved, _) => Ask::Offset(match self.start {
                Start::Latest => End::Latest,
                // An offset is fixed from the beginning.
                Start::Earliest | Start::At(_) => End::Earliest,
            }),
            (State::Verifying, Some((offset, _))) => Ask::Fetch(offset, FetchSize::SingleBatch),
            (State::Reading, _) => Ask::Fetch(self.position, FetchSize::Full),
            // Nothing was read yet: whether all is well is known without a wait for the next record.
            (State::Verifying, None) | (State::ReadingByBatch | State::Skipping | State::Confirming, _) => {
                Ask::Fetch(self.position, FetchSize::SingleBatch)
            }
            (State::BehindTransaction | State::AtEnd, _) => Ask::Offset(End::Latest),
            (State::OutOfRange, _) => Ask::Offset(End::Earliest),
        }
    }

    /// A new connection: what is behind it may be another log.
    pub(crate) fn reconnected(&mut self) {
        if self.is_resolved() && self.last.is_some() {
            self.state = State::Verifying;
        }
    }

    /// The cluster does not list the topic. What comes back under its name is a new log, to be read whole; whether it is
    /// another can be seen from the last record, if there was one.
    pub(crate) fn gone(&mut self) {
        if self.is_resolved() && self.last.is_none() {
            info!("the topic is gone; its successor will be read from the beginning");
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
            // No record is the cause: it is the broker, or what is between us.
            State::AtEnd => {
                self.state = State::Reading;
                Step::Reconnect
            }
            State::OutOfRange => {
                let lost = u64::try_from(offset - self.position).unwrap_or(0);
                warn!(from = self.position, to = offset, lost, "the position left the log");
                self.metrics.lost.inc_by(lost);
                self.begin_at(offset)
            }
            _ => self.begin_at(offset),
        }
    }

    /// A fetch was answered.
    pub(crate) fn on_records(&mut self, records: Vec<ConsumedRecord>, high_watermark: i64) -> Step {
        if self.state == State::Verifying
            && let Some(last) = self.last
        {
            self.high_watermark = high_watermark;
            let found = records.iter().find(|it| it.offset() == last.0);
            if found.is_some_and(|it| it.timestamp_ms() != last.1) {
                warn!(offset = last.0, "the log is another; it is read from the beginning");
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
                    // A transaction marker, or a hole left by compaction.
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

    /// A call failed.
    pub(crate) fn on_error(&mut self, error: &Error) -> Step {
        match error {
            Error::OutOfRange if self.is_resolved() => {
                self.state = match self.state {
                    // What was read last has been deleted since; the next fetch tells about the rest.
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

    fn begin_at(&mut self, offset: i64) -> Step {
        self.position = offset;
        self.state = State::Reading;
        self.last = None;
        Step::Again
    }
}

#[cfg(test)]
mod tests;
