//! Holds the position of a partition consumer and decides its next request: a state machine without I/O.
//!
//! - The position moves only past batches that were delivered, held back, or skipped and counted.
//! - Records of a transaction are held back until it is decided; records of others are not held up by it. Everything below
//!   [`Cursor::held_from`] is decided.
//! - A batch that cannot be decoded is skipped alone.
//! - A topic can be replaced by another of the same name: after a reconnect the last delivered record is compared.

use std::time::Duration;

use shared::{error_chain::ErrorChain, log_limiter::LogLimiter};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    consumed_record::ConsumedRecord,
    error::Error,
    leader::{End, FetchSize, Fetched, Isolation},
    metrics::ConsumerMetrics,
    open_transactions::OpenTransactions,
    record_batch::{Malformed, RecordBatch},
};

/// The memory for batches that are held back, in bytes.
const MAX_HELD_BYTES: usize = 8 << 20;

/// After so long with nothing but batches that cannot be decoded, the consumer is not ready.
const UNREADABLE_TIMEOUT: Duration = Duration::from_secs(10);

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

/// What to do when more is held back than there is memory for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenHeldFull {
    /// Drop the oldest: the reader does not wait for records that old.
    DropOldest,
    /// Read on only up to the first transaction that is not decided yet, until enough of them are.
    Wait,
}

/// A request to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    Offset(End),
    Fetch(i64, FetchSize, Isolation),
}

/// What follows from a response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Deliver these records, and send the next request.
    Deliver(Vec<ConsumedRecord>),
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
    /// Offset and timestamp of the last record read. Another record there means another log.
    last: Option<(i64, i64)>,
    open: OpenTransactions,
    when_full: WhenHeldFull,
    /// More is held back than there is memory for, and the reader waits.
    is_full: bool,
    unreadable: Option<Unreadable>,
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
    /// The position is outside the log.
    OutOfRange,
    /// The connection is new, or the log looks shorter: compares the last record. Or the start offset is given: checks
    /// whether the log has it.
    Verifying,
}

/// Batches that cannot be decoded, without one that can between them.
#[derive(Debug, Clone, Copy)]
struct Unreadable {
    first: Instant,
    last: Instant,
}

// === impl Cursor ===

impl Cursor {
    pub(crate) fn new(start: Start, when_full: WhenHeldFull, metrics: ConsumerMetrics) -> Self {
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
            open: OpenTransactions::default(),
            when_full,
            is_full: false,
            unreadable: None,
            log_limiter: LogLimiter::default(),
            metrics,
        }
    }

    /// Whether the start offset is fixed. From then on no record is missed.
    pub(crate) fn is_resolved(&self) -> bool {
        self.state != State::Unresolved
    }

    /// Why the consumer is not ready although the broker answers.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.is_full {
            let offset = self.open.first_offset().unwrap_or(self.position);
            return Some(format!(
                "open transactions of other producers hold back {} MiB from offset {offset} on; reading waits for them",
                self.open.bytes() >> 20
            ));
        }
        let unreadable = self.unreadable.filter(Unreadable::is_lasting)?;
        Some(format!(
            "no batch could be decoded for {:.0?}; the last was before offset {}",
            unreadable.first.elapsed(),
            self.position
        ))
    }

    /// Whether nothing is being looked into.
    pub(crate) fn is_reading(&self) -> bool {
        self.state == State::Reading
    }

    pub(crate) fn position(&self) -> i64 {
        self.position
    }

    /// The lowest offset that is held back.
    pub(crate) fn held_from(&self) -> Option<i64> {
        self.open.first_offset()
    }

    /// How many records of the log are not fetched yet, as of the last response.
    pub(crate) fn lag(&self) -> i64 {
        (self.high_watermark - self.position).max(0)
    }

    pub(crate) fn request(&self) -> Request {
        let isolation = if self.is_full {
            Isolation::ReadCommitted
        } else {
            Isolation::ReadUncommitted
        };
        match (self.state, self.last) {
            (State::Unresolved, _) => Request::Offset(match self.start {
                Start::Latest => End::Latest,
                // [`Start::At`] is never unresolved.
                Start::Earliest | Start::At(_) => End::Earliest,
            }),
            (State::OutOfRange, _) => Request::Offset(End::Earliest),
            (State::Verifying, Some((offset, _))) => {
                Request::Fetch(offset, FetchSize::SingleBatch, Isolation::ReadUncommitted)
            }
            // Nothing was read yet. A fetch that does not wait shows whether the offset is in the log.
            (State::Verifying, None) => Request::Fetch(self.position, FetchSize::SingleBatch, isolation),
            (State::Reading, _) => Request::Fetch(self.position, FetchSize::Full, isolation),
        }
    }

    /// A new connection, behind which there may be another log.
    pub(crate) fn on_connected(&mut self) {
        if self.is_resolved() && self.last.is_some() {
            self.state = State::Verifying;
        }
    }

    /// The topic does not exist. A topic that returns under its name is a new log, to be read from the beginning. If a record
    /// was read, [`State::Verifying`] finds that out; without one it is assumed.
    pub(crate) fn on_topic_missing(&mut self) {
        if self.is_resolved() && self.last.is_none() {
            info!("the topic was deleted; a new one will be read from the beginning");
            self.start = Start::Earliest;
            self.state = State::Unresolved;
        }
    }

    /// An offset was looked up.
    pub(crate) fn on_offset(&mut self, offset: i64) {
        if self.state == State::OutOfRange {
            let lost = u64::try_from(offset - self.position).unwrap_or(0);
            warn!(from = self.position, to = offset, lost, "the position left the log");
            self.metrics.lost.inc_by(lost);
        }
        self.position = offset;
        self.state = State::Reading;
        self.last = None;
        self.open.clear();
        self.is_full = false;
    }

    /// A fetch was answered: gives the records to deliver.
    pub(crate) fn on_fetched(&mut self, fetched: Fetched) -> Vec<ConsumedRecord> {
        if self.state == State::Verifying
            && let Some(last) = self.last
        {
            self.high_watermark = fetched.high_watermark;
            self.state = if is_another_log(fetched, last) {
                warn!(
                    offset = last.0,
                    "the topic was recreated; it is read from the beginning"
                );
                State::OutOfRange
            } else {
                State::Reading
            };
            return Vec::new();
        }
        let before = self.position;
        let has_shrunk = fetched.high_watermark < self.high_watermark;
        self.high_watermark = fetched.high_watermark;
        let mut is_cut_off = !fetched.batches.is_empty();
        let mut records = Vec::new();
        for batch in fetched.batches {
            is_cut_off = false;
            match batch {
                Ok(batch) if batch.next_offset <= self.position => {}
                Ok(batch) => self.on_batch(batch, &mut records),
                Err(corrupt) => {
                    self.skipped(corrupt.base_offset, 1, &corrupt.cause);
                    // By one offset at least: it may begin before the position.
                    self.position = corrupt.next_offset.max(self.position + 1);
                }
            }
        }
        if is_cut_off {
            // A broker gives the first batch whole, so it claims to be longer than it is.
            self.skipped(before, 1, &Malformed::CutOff);
            self.position += 1;
        }
        self.bound_held();
        self.state = if has_shrunk && self.position == before {
            State::Verifying
        } else {
            State::Reading
        };
        records
    }

    /// A request failed. Returns whether the next request can go on the same connection.
    pub(crate) fn on_error(&mut self, error: &Error) -> Step {
        match error {
            Error::OutOfRange if self.is_resolved() => {
                self.state = match self.state {
                    // The last record was deleted. The next fetch shows whether the position is in the log.
                    State::Verifying if self.last.is_some() => State::Reading,
                    _ => State::OutOfRange,
                };
                Step::Deliver(Vec::new())
            }
            _ => Step::Reconnect,
        }
    }

    fn on_batch(&mut self, batch: RecordBatch, records: &mut Vec<ConsumedRecord>) {
        let batch = batch.starting_at(self.position);
        self.position = batch.next_offset;
        if batch.is_control() {
            // A control batch of another kind, or one that cannot be read, decides nothing.
            if let Some(end) = batch.transaction_end() {
                for decided in self.open.end(batch.producer_id, batch.base_offset, end) {
                    self.decode(decided, records);
                }
            }
        } else if batch.is_transactional() {
            self.open.hold(&batch);
        } else {
            self.decode(batch, records);
        }
    }

    fn decode(&mut self, batch: RecordBatch, records: &mut Vec<ConsumedRecord>) {
        let (base_offset, count) = (batch.base_offset, batch.count());
        match batch.decode() {
            Ok(decoded) => {
                self.unreadable = None;
                let is_last = |record: &&ConsumedRecord| self.last.is_none_or(|(offset, _)| record.offset() > offset);
                if let Some(last) = decoded.last().filter(is_last) {
                    self.last = Some((last.offset(), last.timestamp_ms()));
                }
                records.extend(decoded);
            }
            Err(cause) => self.skipped(base_offset, u64::try_from(count).unwrap_or(1), &cause),
        }
    }

    /// A batch cannot be decoded.
    fn skipped(&mut self, base_offset: i64, count: u64, cause: &Malformed) {
        let now = Instant::now();
        let first = self.unreadable.map_or(now, |unreadable| unreadable.first);
        self.unreadable = Some(Unreadable { first, last: now });
        self.metrics.skipped.inc_by(count);
        if let Some(suppressed) = self.log_limiter.allow() {
            warn!(offset = base_offset, error = %ErrorChain(cause), suppressed, "skipping a batch that cannot be decoded");
        }
    }

    fn bound_held(&mut self) {
        let is_over = self.open.bytes() > MAX_HELD_BYTES;
        match self.when_full {
            WhenHeldFull::Wait => {
                if is_over && !self.is_full {
                    self.metrics.stalls.inc();
                }
                self.is_full = is_over;
            }
            WhenHeldFull::DropOldest => {
                let mut dropped = 0;
                while self.open.bytes() > MAX_HELD_BYTES {
                    let Some(batch) = self.open.drop_oldest() else { break };
                    dropped += u64::try_from(batch.count()).unwrap_or(0);
                }
                if dropped > 0 {
                    self.metrics.lost.inc_by(dropped);
                    warn!(
                        dropped,
                        "open transactions hold back too much: the oldest records are dropped"
                    );
                }
            }
        }
    }
}

/// Whether there is another record where the last one was read.
fn is_another_log(fetched: Fetched, (offset, timestamp_ms): (i64, i64)) -> bool {
    let batches = fetched.batches.filter_map(Result::ok);
    let records = batches
        .filter(|batch| !batch.is_control())
        .filter_map(|batch| batch.decode().ok())
        .flatten();
    let mut same_offset = records.filter(|record| record.offset() == offset);
    same_offset.any(|record| record.timestamp_ms() != timestamp_ms)
}

// === impl Unreadable ===

impl Unreadable {
    /// It has gone on for long, and has not ended.
    fn is_lasting(&self) -> bool {
        self.last - self.first >= UNREADABLE_TIMEOUT && self.last.elapsed() < UNREADABLE_TIMEOUT
    }
}

#[cfg(test)]
mod tests;
