//! One connection: takes turns, asks, checks the answer, counts what became of it.

use crate::{
    answer::{self, Wrong},
    head::Head,
    journal::{Entry, Fate, Journal},
    load::Load,
    request::{Request, RunId},
    schedule::{Schedule, Turn},
    tally::{Outcome, Tally},
    watchdog::Watchdog,
    wire::{Failure, Idle, Wire},
};
use parking_lot::Mutex;
use std::{
    error::Error,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// What a closed loop waits after a connection error. Without it a server that is gone would be asked a hundred thousand
/// times a second.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);
/// How much of a wrong answer is kept.
const MAX_SAMPLE_BYTES: usize = 200;

/// What the callers of a run share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) load: Load,
    pub(crate) schedule: Schedule,
    pub(crate) tally: Mutex<Tally>,
    /// Callers whose first connection is not open yet.
    pub(crate) newcomers: AtomicUsize,
}

/// A connection that asks.
#[derive(Debug)]
pub(crate) struct Caller {
    shared: Arc<Shared>,
    target: SocketAddr,
    request: Request,
    /// Absent before the first connect and after every failure.
    wire: Option<Wire>,
}

// === impl Caller ===

impl Caller {
    pub(crate) fn new(shared: Arc<Shared>, target: SocketAddr, run: &RunId, wire: Option<Wire>) -> Self {
        let request = Request::new(shared.load.question, target, run);
        shared.newcomers.fetch_add(1, Ordering::Relaxed);
        Self {
            shared,
            target,
            request,
            wire,
        }
    }

    /// Asks until there are no more turns.
    pub(crate) async fn run(mut self) {
        let timeout = self.shared.load.timeout;
        let mut watchdog = Watchdog::new(Instant::now() + timeout);
        if self.wire.is_none() {
            // Opened ahead of its first turn. If it fails, that turn tries again, and what it meets is counted.
            let connect = self.shared.connect(self.target);
            self.wire = watchdog
                .guard(Instant::now() + timeout, connect)
                .await
                .and_then(Result::ok);
        }
        self.shared.newcomers.fetch_sub(1, Ordering::Relaxed);
        while let Some(turn) = self.shared.schedule.next().await {
            if self.shared.is_closed() {
                break;
            }
            let sent = Instant::now();
            let outcome = self.ask(&turn, &mut watchdog).await;
            let ended = Instant::now();
            let failed = matches!(outcome, Outcome::NoConnection(_) | Outcome::ConnectionError(_));
            if let Some(journal) = &self.shared.load.journal {
                journal.enter(Entry {
                    due: turn.due,
                    sent,
                    ended,
                    fate: Fate::of(&outcome),
                });
            }
            self.shared.tally.lock().record(&turn, outcome, ended);
            if failed && self.shared.schedule.is_closed_loop() {
                sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }

    async fn ask(&mut self, turn: &Turn, watchdog: &mut Watchdog) -> Outcome {
        let timeout = self.shared.load.timeout;
        let now = if self.shared.schedule.is_closed_loop() {
            turn.due
        } else {
            Instant::now()
        };
        if now.saturating_duration_since(turn.due) >= timeout {
            return Outcome::SendError;
        }
        let deadline = now + timeout;
        self.request.number(turn.number);
        // Out of its place while it is used: what fails or is cut off by the deadline does not come back.
        let kept = self.wire.take();
        match watchdog
            .guard(deadline, self.shared.converse(self.target, kept, self.request.bytes()))
            .await
        {
            None => Outcome::Timeout,
            Some(Err(failure)) => outcome_of(&failure),
            Some(Ok((wire, head))) => {
                let outcome = judge(&head, wire.body(&head), self.request.words());
                self.wire = Some(wire).filter(|_| !head.ends_connection);
                outcome
            }
        }
    }
}

// === impl Shared ===

impl Shared {
    /// Waits until one more caller would be of use. While one is still connecting it is not: opening connections costs
    /// the server more than requests do, and a burst of them would keep it from the answers that make more unnecessary.
    pub(crate) async fn short_handed(&self) {
        loop {
            self.schedule.deserted().await;
            if self.newcomers.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
    }

    /// Whether no more requests are to be begun.
    pub(crate) fn is_closed(&self) -> bool {
        self.load.journal.as_ref().is_some_and(Journal::is_closed)
    }

    pub(crate) async fn connect(&self, target: SocketAddr) -> Result<Wire, Failure> {
        let wire = Wire::connect(target).await?;
        self.tally.lock().opened += 1;
        Ok(wire)
    }

    /// Sends a request over the kept connection, or over a new one if there is none or the server closed it.
    async fn converse(&self, target: SocketAddr, kept: Option<Wire>, request: &[u8]) -> Result<(Wire, Head), Failure> {
        let kept = match kept.map(|wire| (wire.idle(), wire)) {
            Some((Idle::Quiet, wire)) => Some(wire),
            Some((Idle::Closed, _)) | None => None,
            Some((Idle::Spoke, _)) => return Err(Failure::Surplus),
        };
        let may_retry = self.load.retry && kept.is_some();
        let mut wire = match kept {
            Some(wire) => wire,
            None => self.connect(target).await?,
        };
        match wire.exchange(request).await {
            Err(Failure::Closed { untouched: true, .. }) if may_retry => {
                self.tally.lock().retries += 1;
                wire = self.connect(target).await?;
                let head = wire.exchange(request).await?;
                Ok((wire, head))
            }
            other => other.map(|head| (wire, head)),
        }
    }
}

fn judge(head: &Head, body: &[u8], words: &[u8]) -> Outcome {
    if head.status != 200 {
        return Outcome::Status(head.status);
    }
    match answer::check(head, body, words) {
        Ok(id) => Outcome::Ok(id),
        Err(wrong) => {
            let text = |bytes: &[u8]| {
                String::from_utf8_lossy(bytes)
                    .chars()
                    .take(MAX_SAMPLE_BYTES)
                    .collect::<String>()
            };
            Outcome::Wrong(wrong, format!("wanted {:?}, got {:?}", text(words), text(body)))
        }
    }
}

fn outcome_of(failure: &Failure) -> Outcome {
    let cause = failure
        .source()
        .map_or_else(String::new, |source| format!(": {source}"));
    let text = format!("{failure}{cause}");
    match failure {
        Failure::Connect(_) => Outcome::NoConnection(text),
        Failure::Closed { .. } => Outcome::ConnectionError(text),
        Failure::Unreadable(_) => Outcome::Wrong(Wrong::Malformed, text),
        Failure::Surplus => Outcome::Wrong(Wrong::Surplus, text),
    }
}
