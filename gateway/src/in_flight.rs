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

use kafka::{ConsumedRecord, DeliveryCallback, DeliveryResult};
use parking_lot::Mutex;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};
use uuid::Uuid;

use crate::{
    admission::{Admission, RouteLimits},
    ended_requests::{End, EndedRequests},
    response::GatewayError,
};

/// The reply, or why there is none. `None` for a route without replies, whose outcome is the acknowledgement.
pub(crate) type Outcome = Result<Option<Reply>, GatewayError>;

/// A reply record, and where it was read. It keeps its whole fetch in memory: what outlives the task of the caller, such as a
/// response on its way to a slow client, is copied from it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) record: ConsumedRecord,
    pub(crate) partition: i32,
}

/// The metrics of a route that follow its requests in flight.
#[derive(Debug, Clone, Default)]
pub(crate) struct RouteGauges {
    pub(crate) in_flight: Gauge,
    /// Callers that disconnected before their outcome.
    pub(crate) abandoned: Counter,
}

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
    /// No request of this gateway, one to a route without replies, or one that [`EndedRequests`] has forgotten.
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
    /// There is a route without replies: its requests wait for the acknowledgement.
    has_unreplied: bool,
    in_flight: Gauge,
    /// By route.
    gauges: Vec<RouteGauges>,
}

#[derive(Debug)]
struct State {
    admission: Admission,
    entries: HashMap<Uuid, Entry>,
    ended: EndedRequests<(End, u16)>,
}

#[derive(Debug)]
struct Entry {
    registered: Instant,
    /// Taken by the first outcome.
    sender: Option<oneshot::Sender<Outcome>>,
    /// How the request ends if its [`PendingReply`] is dropped now.
    end: End,
    /// The index of its route.
    route: u16,
}

/// When a request was registered, and for which route.
#[derive(Debug)]
struct Registered {
    registered: Instant,
    route: u16,
}

/// The guard of a request in flight: its drop removes the entry.
#[derive(Debug)]
pub(crate) struct PendingReply {
    id: Uuid,
    registered: Instant,
    timeout: Duration,
    route: u16,
    is_probe: bool,
    receiver: oneshot::Receiver<Outcome>,
    shared: Arc<Shared>,
}

// === impl InFlight ===

impl InFlight {
    /// A table for `max_in_flight` requests to these routes. The gauge `in_flight` follows their number, and `gauges` those
    /// of each route.
    pub(crate) fn new(
        max_in_flight: usize,
        routes: &[RouteLimits],
        in_flight: Gauge,
        gauges: Vec<RouteGauges>,
    ) -> Self {
        let state = State {
            admission: Admission::new(max_in_flight, routes),
            entries: HashMap::new(),
            ended: EndedRequests::new(),
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                has_unreplied: routes.iter().any(|route| route.topic.is_none()),
                in_flight,
                gauges,
            }),
        }
    }

    /// The reply offset is fixed: requests to the topic are admitted from now on.
    pub(crate) fn ready(&self, topic: usize) {
        let mut state = self.shared.state.lock();
        if let Some(topic) = state.admission.topic(topic) {
            topic.ready();
        }
    }

    /// The reply partition of the topic is to be chosen again: requests are refused until then.
    pub(crate) fn not_ready(&self, topic: usize) {
        let mut state = self.shared.state.lock();
        if let Some(topic) = state.admission.topic(topic) {
            topic.not_ready();
        }
    }

    /// Whether requests to a topic are refused because no worker is there; a probe is admitted now and then.
    pub(crate) fn set_no_worker(&self, topic: usize, no_worker: bool) {
        let now = Instant::now();
        let mut state = self.shared.state.lock();
        if let Some(topic) = state.admission.topic(topic) {
            topic.set_no_worker(no_worker, now);
        }
    }

    /// Whether a request would be admitted now. It takes no place: [`InFlight::register`] decides again.
    pub(crate) fn check_admission(&self, route: usize, timeout: Duration) -> Result<(), GatewayError> {
        let now = Instant::now();
        self.shared.state.lock().admission.check(route, timeout, now)
    }

    /// Admits a request and registers it. Its timeout starts here.
    pub(crate) fn register(&self, route: usize, timeout: Duration) -> Result<PendingReply, GatewayError> {
        // Routes are at most a thousand.
        let index = u16::try_from(route).unwrap_or(u16::MAX);
        let id = Uuid::new_v4();
        let registered = Instant::now();
        let (sender, receiver) = oneshot::channel();
        let entry = Entry {
            registered,
            sender: Some(sender),
            end: End::Cancelled,
            route: index,
        };
        let mut state = self.shared.state.lock();
        let is_probe = state.admission.admit(route, timeout, registered)?;
        state.entries.insert(id, entry);
        drop(state);
        self.shared.in_flight.inc();
        if let Some(gauges) = self.shared.gauges.get(route) {
            gauges.in_flight.inc();
        }
        Ok(PendingReply {
            id,
            registered,
            timeout,
            route: index,
            is_probe,
            receiver,
            shared: Arc::clone(&self.shared),
        })
    }

    /// Hands a batch of replies to their requests. Returns what each was matched with, and the topic of its route.
    pub(crate) fn reply(&self, replies: Vec<(Uuid, Outcome)>) -> Vec<(ReplyMatch, Option<usize>)> {
        let now = Instant::now();
        let mut senders = Vec::with_capacity(replies.len());
        let mut matches = Vec::with_capacity(replies.len());
        // Replies of one topic in a row, and the latency of the last one.
        let mut run: Option<(usize, u32, Duration)> = None;

        let mut state = self.shared.state.lock();
        for (id, _) in &replies {
            let taken = state.take_sender_for_reply(*id);
            let (reply_match, route) = match &taken {
                Some((_, entry)) => (ReplyMatch::Delivered, Some(entry.route)),
                None => match state
                    .end(*id)
                    .filter(|(_, route)| state.admission.has_replies((*route).into()))
                {
                    Some((End::Answered, route)) => (ReplyMatch::Duplicate, Some(route)),
                    Some((End::Failed | End::Shortened, route)) => (ReplyMatch::Late, Some(route)),
                    Some((End::Cancelled, route)) => (ReplyMatch::Cancelled, Some(route)),
                    None => (ReplyMatch::Foreign, None),
                },
            };
            let limits = route.and_then(|route| state.admission.limits(usize::from(route)));
            let topic = limits.and_then(|limits| limits.topic);
            let latency = match (&taken, limits) {
                (Some((_, entry)), _) => Some(now - entry.registered),
                // Late replies are the best sign of a queue. Replies to callers that left are no sign of anything.
                (None, Some(limits)) if matches!(state.end(*id), Some((End::Failed, _))) => Some(limits.timeout),
                _ => None,
            };
            if let (Some(topic), Some(latency)) = (topic, latency) {
                run = match run {
                    Some((same, count, _)) if same == topic => Some((topic, count + 1, latency)),
                    other => {
                        state.replied(other, now);
                        Some((topic, 1, latency))
                    }
                };
            }
            senders.push(taken.map(|(sender, _)| sender));
            matches.push((reply_match, topic));
        }
        state.replied(run, now);
        drop(state);

        for (taken, (_, outcome)) in senders.into_iter().zip(replies) {
            if let Some(sender) = taken {
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

    /// Gives requests to routes without replies their outcome. Others wait on.
    fn finish(&self, ids: &[Uuid], outcome: &Result<(), GatewayError>) {
        let end = if outcome.is_ok() { End::Answered } else { End::Failed };
        let mut senders = Vec::new();
        let mut state = self.shared.state.lock();
        for id in ids {
            let route = state.entries.get(id).map(|entry| usize::from(entry.route));
            if route.is_some_and(|route| !state.admission.has_replies(route)) {
                senders.extend(state.take_sender(*id, end));
            }
        }
        drop(state);
        for (sender, _) in senders {
            let _ = sender.send(outcome.map(|()| None));
        }
    }

    /// Admits no more requests, and fails all that are in flight.
    pub(crate) fn shut_down(&self) {
        let mut state = self.shared.state.lock();
        state.admission.shut_down();
        let ids: Vec<_> = state.entries.keys().copied().collect();
        drop(state);
        self.fail(&ids, GatewayError::DrainEnded);
    }
}

/// What the producer says of the records.
impl DeliveryCallback for InFlight {
    type Token = Uuid;

    fn on_delivery(&self, ids: Vec<Uuid>, result: DeliveryResult) {
        match result {
            DeliveryResult::NotSent => self.fail(&ids, GatewayError::SendFailed),
            DeliveryResult::Refused => self.fail(&ids, GatewayError::RecordRefused),
            DeliveryResult::Acknowledged if self.shared.has_unreplied => self.finish(&ids, &Ok(())),
            // The record may be in the log. A request with a reply waits on for it; another one has nothing to wait for.
            DeliveryResult::Unknown if self.shared.has_unreplied => self.finish(&ids, &Err(GatewayError::TimedOut)),
            DeliveryResult::Acknowledged | DeliveryResult::Unknown => {}
        }
    }
}

// === impl State ===

impl State {
    /// Takes the sender of a request that has no outcome yet, with the time of its registration and its route.
    fn take_sender(&mut self, id: Uuid, end: End) -> Option<(oneshot::Sender<Outcome>, Registered)> {
        self.entries.get_mut(&id)?.take_sender(end)
    }

    /// The same for a reply. The outcome of a request to a route without replies is its acknowledgement alone.
    fn take_sender_for_reply(&mut self, id: Uuid) -> Option<(oneshot::Sender<Outcome>, Registered)> {
        let entry = self.entries.get_mut(&id)?;
        let has_replies = self.admission.has_replies(entry.route.into());
        has_replies.then(|| entry.take_sender(End::Answered))?
    }

    /// How a request without a sender ended, or is about to end, and its route.
    fn end(&self, id: Uuid) -> Option<(End, u16)> {
        let entry = self.entries.get(&id);
        entry
            .map(|entry| (entry.end, entry.route))
            .or_else(|| self.ended.get(id))
    }

    /// Tells a topic of some replies and the latency of the last.
    fn replied(&mut self, run: Option<(usize, u32, Duration)>, now: Instant) {
        if let Some((topic, count, latency)) = run
            && let Some(topic) = self.admission.topic(topic)
        {
            topic.replied(count, latency, now);
        }
    }
}

// === impl Entry ===

impl Entry {
    fn take_sender(&mut self, end: End) -> Option<(oneshot::Sender<Outcome>, Registered)> {
        let sender = self.sender.take()?;
        self.end = end;
        let (registered, route) = (self.registered, self.route);
        Some((sender, Registered { registered, route }))
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

    /// When the timeout ends.
    pub(crate) fn deadline(&self) -> Instant {
        self.registered + self.timeout
    }

    /// Waits for the outcome: the reply, an error, or the timeout.
    pub(crate) async fn outcome(mut self) -> Outcome {
        let deadline = self.registered + self.timeout;
        let received = match timeout_at(deadline, &mut self.receiver).await {
            Ok(received) => received,
            Err(_elapsed) => {
                let taken = {
                    let mut state = self.shared.state.lock();
                    let limits = state.admission.limits(usize::from(self.route));
                    let is_shortened = limits.is_some_and(|limits| self.timeout < limits.timeout);
                    state.take_sender(self.id, if is_shortened { End::Shortened } else { End::Failed })
                };
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
        if self.is_probe
            && let Some(topic) = state.admission.topic_of(usize::from(self.route))
        {
            topic.return_probe(now);
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
        state.ended.insert(self.id, (end, self.route));
        state.admission.leave(usize::from(self.route));
        drop(state);
        self.shared.in_flight.dec();
        if let Some(gauges) = self.shared.gauges.get(usize::from(self.route)) {
            gauges.in_flight.dec();
            if end == End::Cancelled {
                gauges.abandoned.inc();
            }
        }
    }
}

#[cfg(test)]
mod tests;
