//! The requests in flight: each waits for its reply in an entry of one table.
//!
//! ```text
//! register ─▶ waiting ── reply / fail / shut_down / timeout ──▶ sender taken ─┬─▶ entry removed
//!                └───────── PendingReply dropped: the caller left ────────────┘
//! ```
//!
//! - A request is registered before its record is handed to the producer: no reply can arrive before its entry exists.
//! - The first outcome takes the sender out of the entry. Later ones find none, and are late or duplicate.
//! - Only the drop of a [`PendingReply`] removes its entry, on every way out of a request.
//! - Nothing is awaited, parsed, logged or woken under the lock. A batch of replies takes it once.

use std::{collections::HashMap, sync::Arc, time::Duration};

use kafka::{DeliveryCallback, DeliveryResult};
use parking_lot::Mutex;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};
use uuid::Uuid;

use crate::{
    admission::Admission,
    ended_requests::{End, EndedRequests},
    response::GatewayError,
};

/// The value of the reply, or why there is none.
pub(crate) type Outcome = Result<Vec<u8>, GatewayError>;

/// What a reply was matched with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplyMatch {
    /// A request in flight, which has its reply now.
    Delivered,
    /// A request that had a reply before.
    Duplicate,
    /// A request that had failed before, most likely by its timeout.
    Late,
    /// A request whose caller had disconnected before.
    Cancelled,
    /// No request of this gateway, or one that [`EndedRequests`] has forgotten.
    Foreign,
}

/// The table of the requests in flight. Cheap to clone.
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
    entries: HashMap<Uuid, Entry>,
    ended: EndedRequests,
}

#[derive(Debug)]
struct Entry {
    registered: Instant,
    /// Taken by the first outcome.
    sender: Option<oneshot::Sender<Outcome>>,
    /// How the request ends if its [`PendingReply`] is dropped now.
    end: End,
}

/// The guard of a request in flight: its drop removes the entry.
#[derive(Debug)]
pub(crate) struct PendingReply {
    id: Uuid,
    registered: Instant,
    is_probe: bool,
    receiver: oneshot::Receiver<Outcome>,
    shared: Arc<Shared>,
}

// === impl InFlight ===

impl InFlight {
    /// A table for `max_in_flight` requests, each with `reply_timeout`. The gauge `in_flight` follows their number;
    /// `abandoned` counts callers that disconnect before their outcome.
    pub(crate) fn new(max_in_flight: usize, reply_timeout: Duration, in_flight: Gauge, abandoned: Counter) -> Self {
        let state = State {
            admission: Admission::new(max_in_flight, reply_timeout),
            entries: HashMap::new(),
            ended: EndedRequests::new(),
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

    /// The reply offset is fixed: requests are admitted from now on.
    pub(crate) fn ready(&self) {
        self.shared.state.lock().admission.ready();
    }

    /// The reply partition is to be chosen again: requests are refused until then.
    pub(crate) fn not_ready(&self) {
        self.shared.state.lock().admission.not_ready();
    }

    /// Whether requests are refused because no worker is there; a probe is admitted now and then.
    pub(crate) fn set_no_worker(&self, no_worker: bool) {
        let now = Instant::now();
        self.shared.state.lock().admission.set_no_worker(no_worker, now);
    }

    /// Whether a request would be admitted now. It takes no place: [`InFlight::register`] decides again.
    pub(crate) fn check_admission(&self) -> Result<(), GatewayError> {
        let now = Instant::now();
        let mut state = self.shared.state.lock();
        let in_flight = state.entries.len();
        state.admission.check(in_flight, now)
    }

    /// Admits a request and registers it. Its reply timeout starts here.
    pub(crate) fn register(&self) -> Result<PendingReply, GatewayError> {
        let id = Uuid::new_v4();
        let registered = Instant::now();
        let (sender, receiver) = oneshot::channel();
        let entry = Entry {
            registered,
            sender: Some(sender),
            end: End::Cancelled,
        };
        let mut state = self.shared.state.lock();
        let in_flight = state.entries.len();
        let is_probe = state.admission.admit(in_flight, registered)?;
        state.entries.insert(id, entry);
        drop(state);
        self.shared.in_flight.inc();
        Ok(PendingReply {
            id,
            registered,
            is_probe,
            receiver,
            shared: Arc::clone(&self.shared),
        })
    }

    /// Hands a batch of replies to their requests, and returns what each was matched with.
    pub(crate) fn reply(&self, replies: Vec<(Uuid, Outcome)>) -> Vec<ReplyMatch> {
        let now = Instant::now();
        let mut senders = Vec::with_capacity(replies.len());
        let mut matches = Vec::with_capacity(replies.len());
        let mut count = 0;
        let mut last_latency = None;

        let mut state = self.shared.state.lock();
        for (id, _) in &replies {
            let taken = state.take_sender(*id, End::Answered);
            let (reply_match, latency) = match &taken {
                Some((_, registered)) => (ReplyMatch::Delivered, Some(now - *registered)),
                None => match state.end(*id) {
                    Some(End::Answered) => (ReplyMatch::Duplicate, None),
                    // Late replies are the best sign of a queue. Replies to callers that left are no sign of anything.
                    Some(End::Failed) => (ReplyMatch::Late, Some(self.shared.reply_timeout)),
                    Some(End::Cancelled) => (ReplyMatch::Cancelled, None),
                    None => (ReplyMatch::Foreign, None),
                },
            };
            count += u32::from(latency.is_some());
            last_latency = latency.or(last_latency);
            senders.push(taken);
            matches.push(reply_match);
        }
        if let Some(latency) = last_latency {
            state.admission.replied(count, latency, now);
        }
        drop(state);

        for (taken, (_, outcome)) in senders.into_iter().zip(replies) {
            if let Some((sender, _)) = taken {
                // The caller may have disconnected since the lock was released.
                let _ = sender.send(outcome);
            }
        }
        matches
    }

    /// Fails requests; those that have an outcome keep it.
    pub(crate) fn fail(&self, ids: &[Uuid], error: GatewayError) {
        let mut senders = Vec::with_capacity(ids.len());
        let mut state = self.shared.state.lock();
        for id in ids {
            senders.extend(state.take_sender(*id, End::Failed));
        }
        drop(state);
        for (sender, _) in senders {
            let _ = sender.send(Err(error));
        }
    }

    /// Admits no more requests, and fails all that are in flight.
    pub(crate) fn shut_down(&self) {
        let mut state = self.shared.state.lock();
        state.admission.shut_down();
        let ids: Vec<_> = state.entries.keys().copied().collect();
        drop(state);
        self.fail(&ids, GatewayError::ShuttingDown);
    }
}

/// What the producer says of the records.
impl DeliveryCallback for InFlight {
    type Token = Uuid;

    fn on_delivery(&self, ids: Vec<Uuid>, result: DeliveryResult) {
        match result {
            DeliveryResult::NotSent | DeliveryResult::Refused => self.fail(&ids, GatewayError::SendFailed),
            // With an unknown result the record may be in the log: the request waits on for its reply.
            DeliveryResult::Acknowledged | DeliveryResult::Unknown => {}
        }
    }
}

// === impl State ===

impl State {
    /// Takes the sender of a request that has no outcome yet, with the time of its registration.
    fn take_sender(&mut self, id: Uuid, end: End) -> Option<(oneshot::Sender<Outcome>, Instant)> {
        let entry = self.entries.get_mut(&id)?;
        let sender = entry.sender.take()?;
        entry.end = end;
        Some((sender, entry.registered))
    }

    /// How a request without a sender ended, or is about to end.
    fn end(&self, id: Uuid) -> Option<End> {
        let entry = self.entries.get(&id);
        entry.map(|entry| entry.end).or_else(|| self.ended.get(id))
    }
}

// === impl PendingReply ===

impl PendingReply {
    /// The correlation id.
    pub(crate) fn id(&self) -> Uuid {
        self.id
    }

    pub(crate) fn registered(&self) -> Instant {
        self.registered
    }

    /// When the reply timeout ends.
    pub(crate) fn deadline(&self) -> Instant {
        self.registered + self.shared.reply_timeout
    }

    /// Waits for the outcome: the reply, an error, or the reply timeout.
    pub(crate) async fn outcome(mut self) -> Outcome {
        let deadline = self.registered + self.shared.reply_timeout;
        let received = match timeout_at(deadline, &mut self.receiver).await {
            Ok(received) => received,
            Err(_elapsed) => {
                let taken = self.shared.state.lock().take_sender(self.id, End::Failed);
                if taken.is_some() {
                    return Err(GatewayError::TimedOut);
                }
                // Another thread took the sender at the same time: its outcome counts.
                (&mut self.receiver).await
            }
        };
        // A sender is never dropped without an outcome while its request waits.
        received.unwrap_or(Err(GatewayError::TimedOut))
    }

    /// Removes the request because its record was not handed to the producer; passes `reason` on.
    pub(crate) fn cancel(self, reason: GatewayError) -> GatewayError {
        let now = Instant::now();
        let mut state = self.shared.state.lock();
        let taken = state.take_sender(self.id, End::Failed);
        if self.is_probe {
            state.admission.return_probe(now);
        }
        drop(state);
        drop(taken);
        reason
    }
}

impl Drop for PendingReply {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        let entry = state.entries.remove(&self.id);
        let end = entry.as_ref().map_or(End::Cancelled, |entry| entry.end);
        state.ended.insert(self.id, end);
        drop(state);
        self.shared.in_flight.dec();
        if end == End::Cancelled {
            self.shared.abandoned.inc();
        }
    }
}

#[cfg(test)]
mod tests;
