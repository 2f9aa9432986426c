//! The callers that wait for a reply.
//!
//! ```text
//! open ─▶ waiting ─ resolve / expire / shut_down ─▶ resolved ─ the pending_reply is polled ─▶ taken
//!            └──────────── the pending_reply is dropped, in any state: the entry is gone ──────────┘
//! ```
//!
//! - A pending_reply is open before its record is sent: a reply cannot come too early.
//! - Only the drop of a pending_reply removes its entry, so every way out of a request frees its place.
//! - A pending_reply is resolved once; what comes later finds it resolved, and for a while after its end what became of it.
//! - No waker is woken, and nothing awaited, under the lock.
//! - All callers have the same reply_timeout, so the deadlines are a queue and one task watches them all.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::{
    admission::Admission,
    ended_requests::{End, EndedRequests},
    response::GatewayError,
};

/// How exactly deadlines are kept: the watch sleeps this long at least.
const GRANULARITY: Duration = Duration::from_millis(10);

/// Deadlines of requests that are done stay in the queue until they outnumber the others by this factor.
const STALE_FACTOR: usize = 2;

/// What becomes of a request: the reply's value, or why there is none.
pub(crate) type Outcome = Result<Vec<u8>, GatewayError>;

/// What a reply found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplyMatch {
    /// Its caller, who has it now.
    Delivered,
    /// A caller who had a reply already.
    Duplicate,
    /// A caller who was told something else.
    Late,
    /// A caller who had left before.
    Cancelled,
    /// No request that was made here, or one that is long over.
    Foreign,
}

/// The callers that wait. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct InFlight {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    reply_timeout: Duration,
    in_flight: Gauge,
    abandoned: Counter,
}

#[derive(Debug)]
struct State {
    admission: Admission,
    waiting: HashMap<Uuid, Slot>,
    ended: EndedRequests,
    /// In the order of opening, which is the order of the deadlines.
    deadlines: VecDeque<(Instant, Uuid)>,
}

#[derive(Debug)]
struct Slot {
    opened: Instant,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// With whom to wake, once the pending_reply was polled.
    Waiting(Option<Waker>),
    Resolved(Resolution),
    /// The pending_reply has its outcome; only its drop is missing.
    Taken(End),
}

/// An outcome, and whether it came with a reply.
#[derive(Debug)]
struct Resolution {
    outcome: Outcome,
    end: End,
}

/// A caller's place. Resolves to the outcome; when it is dropped the place is free.
#[derive(Debug)]
pub(crate) struct PendingReply {
    id: Uuid,
    opened: Instant,
    is_probe: bool,
    shared: Arc<Shared>,
}

// === impl InFlight ===

impl InFlight {
    /// Room for `max` callers, each of whom waits for `reply_timeout`. `in_flight` follows their number; `abandoned`
    /// counts those that left before their outcome.
    pub(crate) fn new(max: usize, reply_timeout: Duration, in_flight: Gauge, abandoned: Counter) -> Self {
        let state = State {
            admission: Admission::new(max, reply_timeout),
            waiting: HashMap::new(),
            ended: EndedRequests::new(),
            deadlines: VecDeque::new(),
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                reply_timeout,
                in_flight,
                abandoned,
            }),
        }
    }

    /// The reply offset is fixed: callers are taken from now on.
    pub(crate) fn admit(&self) {
        self.shared.state.lock().admission.ready();
    }

    /// Whether nobody is there to answer: then callers are told so, but for one now and then.
    pub(crate) fn set_no_worker(&self, no_worker: bool) {
        let now = Instant::now();
        self.shared.state.lock().admission.set_no_worker(no_worker, now);
    }

    /// Registers a caller.
    pub(crate) fn register(&self) -> Result<PendingReply, GatewayError> {
        let id = Uuid::new_v4();
        let now = Instant::now();
        let mut state = self.shared.state.lock();
        let in_flight = state.waiting.len();
        let is_probe = state.admission.admit(in_flight, now)?;
        let stage = Stage::Waiting(None);
        state.waiting.insert(id, Slot { opened: now, stage });
        state.deadlines.push_back((now + self.shared.reply_timeout, id));
        state.forget_stale_deadlines();
        drop(state);
        self.shared.in_flight.inc();
        Ok(PendingReply {
            id,
            opened: now,
            is_probe,
            shared: Arc::clone(&self.shared),
        })
    }

    /// Gives replies to callers, a whole batch under one lock; `found` hears of each in turn.
    pub(crate) fn reply(&self, replies: impl IntoIterator<Item = (Uuid, Outcome)>, mut found: impl FnMut(ReplyMatch)) {
        let now = Instant::now();
        let mut wakers = Vec::new();
        let mut waited = None;
        let mut count = 0;
        let mut state = self.shared.state.lock();
        for (id, outcome) in replies {
            let end = End::Answered;
            let (what, waited_here) = match state.resolve(id, Resolution { outcome, end }, &mut wakers) {
                Ok(opened) => (ReplyMatch::Delivered, Some(now - opened)),
                Err(end) => match ReplyMatch::of(end.or_else(|| state.ended.get(id))) {
                    // A reply that comes too late says most about how late replies are; that somebody left says nothing.
                    ReplyMatch::Late => (ReplyMatch::Late, Some(self.shared.reply_timeout)),
                    what => (what, None),
                },
            };
            count += u32::from(waited_here.is_some());
            waited = waited_here.or(waited);
            found(what);
        }
        if let Some(waited) = waited {
            state.admission.replied(count, waited, now);
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Tells callers why they get no reply.
    pub(crate) fn refuse(&self, ids: impl IntoIterator<Item = Uuid>, error: GatewayError) {
        let mut wakers = Vec::new();
        let mut state = self.shared.state.lock();
        for id in ids {
            let (outcome, end) = (Err(error), End::Failed);
            // Whoever has an outcome keeps it.
            let _ = state.resolve(id, Resolution { outcome, end }, &mut wakers);
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Takes no more callers and tells all that wait that the process ends.
    pub(crate) fn shut_down(&self) {
        let ids: Vec<_> = {
            let mut state = self.shared.state.lock();
            state.admission.shut_down();
            state.waiting.keys().copied().collect()
        };
        self.refuse(ids, GatewayError::ShuttingDown);
    }

    /// Watches the deadlines, for ever.
    pub(crate) async fn expire(self) -> Infallible {
        loop {
            let now = Instant::now();
            let next = self.refuse_late(now);
            // Whoever comes from now on has a later deadline than this.
            let next = next.unwrap_or(now + self.shared.reply_timeout);
            sleep_until(next.max(now + GRANULARITY)).await;
        }
    }

    /// Tells those whose deadline is over, and gives the next deadline.
    fn refuse_late(&self, now: Instant) -> Option<Instant> {
        let (due, next) = self.shared.state.lock().due(now);
        self.refuse(due, GatewayError::TimedOut);
        next
    }
}

// === impl ReplyMatch ===

impl ReplyMatch {
    /// Of a request that is over, if it was one of ours.
    fn of(end: Option<End>) -> Self {
        match end {
            Some(End::Answered) => Self::Duplicate,
            Some(End::Failed) => Self::Late,
            Some(End::Cancelled) => Self::Cancelled,
            None => Self::Foreign,
        }
    }
}

// === impl State ===

impl State {
    /// Gives a caller an outcome; gives since when the caller waited.
    ///
    /// # Errors
    /// What had become of the request before, or `None` if its pending_reply is gone.
    fn resolve(&mut self, id: Uuid, resolution: Resolution, wakers: &mut Vec<Waker>) -> Result<Instant, Option<End>> {
        let Slot { opened, stage } = self.waiting.get_mut(&id).ok_or(None)?;
        if let Stage::Resolved(Resolution { end, .. }) | Stage::Taken(end) = stage {
            return Err(Some(*end));
        }
        if let Stage::Waiting(waker) = std::mem::replace(stage, Stage::Resolved(resolution)) {
            wakers.extend(waker);
        }
        Ok(*opened)
    }

    /// Those whose deadline is over, and the next deadline.
    fn due(&mut self, now: Instant) -> (Vec<Uuid>, Option<Instant>) {
        let mut due = Vec::new();
        while let Some(&(deadline, id)) = self.deadlines.front() {
            if self.waiting.contains_key(&id) {
                if deadline > now {
                    return (due, Some(deadline));
                }
                due.push(id);
            }
            self.deadlines.pop_front();
        }
        (due, None)
    }

    /// Keeps the queue in proportion to those who wait, at a constant cost per request.
    fn forget_stale_deadlines(&mut self) {
        if self.deadlines.len() > STALE_FACTOR * self.waiting.len() + 64 {
            self.deadlines.retain(|(_, id)| self.waiting.contains_key(id));
        }
    }
}

// === impl PendingReply ===

impl PendingReply {
    /// The correlation id.
    pub(crate) fn id(&self) -> Uuid {
        self.id
    }

    /// When it was opened.
    pub(crate) fn opened(&self) -> Instant {
        self.opened
    }

    /// Gives the place back for a reason of ours: nobody has left.
    pub(crate) fn cancel(self, reason: GatewayError) -> GatewayError {
        let mut state = self.shared.state.lock();
        if let Some(slot) = state.waiting.get_mut(&self.id) {
            slot.stage = Stage::Taken(End::Failed);
        }
        if self.is_probe {
            state.admission.return_probe(Instant::now());
        }
        drop(state);
        reason
    }
}

impl Future for PendingReply {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut state = self.shared.state.lock();
        let Some(Slot { stage, .. }) = state.waiting.get_mut(&self.id) else {
            // Only the drop removes the entry.
            return Poll::Ready(Err(GatewayError::TimedOut));
        };
        match stage {
            Stage::Waiting(Some(waker)) => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
            Stage::Waiting(none) => {
                *none = Some(cx.waker().clone());
                Poll::Pending
            }
            Stage::Resolved(Resolution { end, .. }) | Stage::Taken(end) => {
                let taken = Stage::Taken(*end);
                match std::mem::replace(stage, taken) {
                    Stage::Resolved(Resolution { outcome, .. }) => Poll::Ready(outcome),
                    // Polled again after its outcome.
                    Stage::Waiting(_) | Stage::Taken(_) => Poll::Ready(Err(GatewayError::TimedOut)),
                }
            }
        }
    }
}

impl Drop for PendingReply {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        let stage = state.waiting.remove(&self.id).map(|it| it.stage);
        let left = matches!(stage, Some(Stage::Waiting(_)));
        let end = match stage {
            Some(Stage::Resolved(Resolution { end, .. }) | Stage::Taken(end)) => end,
            Some(Stage::Waiting(_)) | None => End::Cancelled,
        };
        state.ended.insert(self.id, end);
        drop(state);
        self.shared.in_flight.dec();
        if left {
            self.shared.abandoned.inc();
        }
    }
}

#[cfg(test)]
mod tests;
