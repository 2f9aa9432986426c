//! The callers that wait for a reply.
//!
//! ```text
//! open ─▶ waiting ─ resolve / expire / shut_down ─▶ resolved ─ the ticket is polled ─▶ taken
//!            └──────────── the ticket is dropped, in any state: the entry is gone ──────────┘
//! ```
//!
//! - A ticket is open before its record is sent: a reply cannot come too early.
//! - Only the drop of a ticket removes its entry, so every way out of a request frees its place.
//! - A ticket is resolved once; what comes later finds it resolved.
//! - No waker is woken, and nothing awaited, under the lock.
//! - All callers have the same patience, so the deadlines are a queue and one task watches them all.

use std::{
    collections::{HashMap, VecDeque},
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

use crate::answers::Refusal;

/// How exactly deadlines are kept: the watch sleeps this long at least.
const GRANULARITY: Duration = Duration::from_millis(10);

/// Deadlines of requests that are done stay in the queue until they outnumber the others by this factor.
const STALE_FACTOR: usize = 2;

/// What becomes of a request: the reply's value, or why there is none.
pub(crate) type Outcome = Result<Vec<u8>, Refusal>;

/// What a reply found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Its caller, who has it now.
    Waiting,
    /// A caller who had an outcome already.
    Resolved,
    /// Nobody.
    Nobody,
}

/// The callers that wait. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    max: usize,
    patience: Duration,
    in_flight: Gauge,
    abandoned: Counter,
}

#[derive(Debug)]
struct State {
    admission: Admission,
    waiting: HashMap<Uuid, Slot>,
    /// In the order of opening, which is the order of the deadlines.
    deadlines: VecDeque<(Instant, Uuid)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Admission {
    /// The reply offset is not fixed: a reply could be missed.
    NotReady,
    Open,
    ShuttingDown,
}

/// Invariant: with an outcome there is no waker left to wake.
#[derive(Debug, Default)]
struct Slot {
    outcome: Option<Outcome>,
    waker: Option<Waker>,
}

/// A caller's place. Resolves to the outcome; when it is dropped the place is free.
#[derive(Debug)]
pub(crate) struct Ticket {
    id: Uuid,
    shared: Arc<Shared>,
}

// === impl Pending ===

impl Pending {
    /// Room for `max` callers, each of whom waits for `patience`. `in_flight` follows their number; `abandoned`
    /// counts those that left before their outcome.
    pub(crate) fn new(max: usize, patience: Duration, in_flight: Gauge, abandoned: Counter) -> Self {
        let state = State {
            admission: Admission::NotReady,
            waiting: HashMap::new(),
            deadlines: VecDeque::new(),
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                max,
                patience,
                in_flight,
                abandoned,
            }),
        }
    }

    /// The reply offset is fixed: callers are taken from now on.
    pub(crate) fn admit(&self) {
        let mut state = self.shared.state.lock();
        if state.admission == Admission::NotReady {
            state.admission = Admission::Open;
        }
    }

    /// Registers a caller.
    pub(crate) fn open(&self) -> Result<Ticket, Refusal> {
        let id = Uuid::new_v4();
        let deadline = Instant::now() + self.shared.patience;
        let mut state = self.shared.state.lock();
        match state.admission {
            Admission::NotReady => return Err(Refusal::NotReady),
            Admission::ShuttingDown => return Err(Refusal::ShuttingDown),
            Admission::Open => {}
        }
        if state.waiting.len() >= self.shared.max {
            return Err(Refusal::Full);
        }
        state.waiting.insert(id, Slot::default());
        state.deadlines.push_back((deadline, id));
        state.forget_stale_deadlines();
        drop(state);
        self.shared.in_flight.inc();
        Ok(Ticket {
            id,
            shared: Arc::clone(&self.shared),
        })
    }

    /// Gives outcomes to callers, a whole batch under one lock; `found` hears of each in turn.
    pub(crate) fn resolve(&self, outcomes: impl IntoIterator<Item = (Uuid, Outcome)>, mut found: impl FnMut(Found)) {
        let mut wakers = Vec::new();
        let mut state = self.shared.state.lock();
        for (id, outcome) in outcomes {
            found(match state.waiting.get_mut(&id) {
                None => Found::Nobody,
                Some(slot) if slot.outcome.is_some() => Found::Resolved,
                Some(slot) => {
                    slot.outcome = Some(outcome);
                    wakers.extend(slot.waker.take());
                    Found::Waiting
                }
            });
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Takes no more callers and tells all that wait that the process ends.
    pub(crate) fn shut_down(&self) {
        let ids: Vec<_> = {
            let mut state = self.shared.state.lock();
            state.admission = Admission::ShuttingDown;
            state.waiting.keys().copied().collect()
        };
        let outcomes = ids.into_iter().map(|id| (id, Err(Refusal::ShuttingDown)));
        self.resolve(outcomes, |_| {});
    }

    /// Watches the deadlines, for ever.
    pub(crate) async fn expire(self) {
        loop {
            let now = Instant::now();
            let (due, next) = self.shared.state.lock().due(now);
            let outcomes = due.into_iter().map(|id| (id, Err(Refusal::TimedOut)));
            self.resolve(outcomes, |_| {});
            // Whoever comes from now on has a later deadline than this.
            let next = next.unwrap_or(now + self.shared.patience);
            sleep_until(next.max(now + GRANULARITY)).await;
        }
    }
}

// === impl State ===

impl State {
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

// === impl Ticket ===

impl Ticket {
    /// The correlation id.
    pub(crate) fn id(&self) -> Uuid {
        self.id
    }

    /// Gives the place back for a reason of ours: nobody has left.
    pub(crate) fn withdraw(self, reason: Refusal) -> Refusal {
        if let Some(slot) = self.shared.state.lock().waiting.get_mut(&self.id) {
            slot.outcome = Some(Err(reason));
        }
        reason
    }
}

impl Future for Ticket {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut state = self.shared.state.lock();
        let Some(slot) = state.waiting.get_mut(&self.id) else {
            // Only the drop removes the entry; a ticket polled after its outcome was taken has none.
            return Poll::Ready(Err(Refusal::TimedOut));
        };
        if let Some(outcome) = slot.outcome.take() {
            // What comes between now and the drop must not find a caller.
            slot.outcome = Some(Err(Refusal::TimedOut));
            return Poll::Ready(outcome);
        }
        match &mut slot.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let slot = self.shared.state.lock().waiting.remove(&self.id);
        self.shared.in_flight.dec();
        if slot.is_some_and(|it| it.outcome.is_none()) {
            self.shared.abandoned.inc();
        }
    }
}

#[cfg(test)]
mod tests;
