//! Runs handlers: spawned on the runtime of the user, within the bounds of [`dispatch`](crate::dispatch), each until its
//! deadline.
//!
//! - A panic is a failure. A handler that blocks its thread delays other handlers only.
//! - A place is free when a handler has ended, not when it was told to end.
//! - Where no caller waits, a failed request is tried again, then written to the dead letters. Meanwhile it holds its key.
//! - When its partition stops, a request that waits for its next attempt is given up, and with it those behind it. It is not
//!   acknowledged: the next owner of the partition has it again.

use std::{
    any::Any,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use kafka::InFlightOffset;
use parking_lot::Mutex;
use shared::{log_limiter::LogLimiter, readiness::HealthCheck, tasks::Tasks};
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    task::JoinError,
    time::{Instant, sleep, sleep_until},
};
use tracing::{info, warn};

use crate::{
    Failure, Request, Status,
    dead_letters::DeadLetters,
    dispatch::{Dispatch, Held},
    failure::Kind,
    gate::Gate,
    handler::{Outcome, Service},
    metrics::Metrics,
    reply_producers::ReplyProducers,
    retry,
    send_reply::send_reply,
};

/// The bytes of requests that wait to be handled, over all partitions. With as many, no partition is polled.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// How long a handler may take to end after its deadline before the log says that it blocks.
const ABORT_GRACE: Duration = Duration::from_secs(5);

/// Topic, partition and key of a request.
type Key = (Arc<str>, i32, Bytes);

/// How far a partition has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It is read.
    Serving,
    /// What was read is still handled.
    Stopping,
    /// Nothing is handled any more.
    Ended,
}

/// Runs the handlers of all partitions. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Executor {
    shared: Arc<Shared>,
}

/// What an executor needs.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) concurrency: usize,
    /// The bound on a handler whose request has no deadline.
    pub(crate) default_timeout: Duration,
    /// Where handlers run.
    pub(crate) runtime: Handle,
    /// Where the tasks of the executor run.
    pub(crate) tasks: Tasks,
    pub(crate) replies: ReplyProducers,
    pub(crate) dead_letters: Option<DeadLetters>,
    pub(crate) gate: Gate,
    pub(crate) metrics: Metrics,
    /// Names a request that fails at every attempt.
    pub(crate) retries: HealthCheck,
}

#[derive(Debug)]
struct Shared {
    parts: Parts,
    dispatch: Mutex<Dispatch<Key, Job>>,
    waiting_bytes: AtomicUsize,
    /// Fewer bytes wait.
    room: Notify,
    /// The handlers that run, by number, with their beginnings.
    running: Mutex<BTreeMap<u64, Instant>>,
    next_number: AtomicU64,
    /// The requests that failed at every attempt and are tried on, with the cause.
    failing: Mutex<BTreeMap<String, String>>,
    log_limiter: Mutex<LogLimiter>,
}

/// A request to be handled.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) request: Request,
    pub(crate) service: Service,
    pub(crate) in_flight: InFlightOffset,
    /// Of its partition.
    pub(crate) phase: watch::Receiver<Phase>,
    /// Attempts that have failed.
    pub(crate) failed_attempts: u32,
}

/// How an attempt has ended.
enum Attempt {
    Done(Outcome),
    /// The deadline has passed before the request had its turn.
    Expired,
    /// The handler was dropped at its deadline.
    TimedOut,
    /// The partition has ended, or the runtime of the user.
    Cancelled,
}

/// Counts a running handler.
struct Running<'a> {
    shared: &'a Shared,
    number: u64,
}

// === impl Executor ===

impl Executor {
    pub(crate) fn new(parts: Parts) -> Self {
        parts.retries.ready();
        Self {
            shared: Arc::new(Shared {
                dispatch: Mutex::new(Dispatch::new(parts.concurrency)),
                parts,
                waiting_bytes: AtomicUsize::new(0),
                room: Notify::new(),
                running: Mutex::default(),
                next_number: AtomicU64::new(0),
                failing: Mutex::default(),
                log_limiter: Mutex::default(),
            }),
        }
    }

    /// Handles a request when its turn comes.
    pub(crate) fn submit(&self, job: Job) {
        self.shared.waiting_bytes.fetch_add(job.size_bytes(), Ordering::Relaxed);
        let key = job.request.record().key_bytes();
        let key = key.map(|key| (Arc::clone(job.service.topic()), job.request.partition(), key));
        self.shared.dispatch.lock().push(key, job);
        self.start_ready();
    }

    /// Waits until requests can be handled, and there is room for more of them.
    pub(crate) async fn wait_for_room(&self) {
        self.shared.parts.gate.opened().await;
        loop {
            let mut room = std::pin::pin!(self.shared.room.notified());
            // Registered before the look, so that no change falls in between.
            room.as_mut().enable();
            if self.shared.waiting_bytes.load(Ordering::Relaxed) < MAX_WAITING_BYTES {
                return;
            }
            room.await;
        }
    }

    /// How many handlers run.
    pub(crate) fn running(&self) -> usize {
        self.shared.dispatch.lock().running()
    }

    /// How long the oldest running handler has run.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        let running = self.shared.running.lock();
        running.first_key_value().map(|(_, begun)| begun.elapsed())
    }

    fn start_ready(&self) {
        // The guard must not live through the loop's body.
        while let Some(held) = { self.shared.dispatch.lock().start() } {
            self.shared
                .waiting_bytes
                .fetch_sub(held.item.size_bytes(), Ordering::Relaxed);
            self.shared.room.notify_waiters();
            let executor = self.clone();
            self.shared.parts.tasks.spawn(async move { executor.run(held).await });
        }
        let running = i64::try_from(self.running()).unwrap_or(i64::MAX);
        self.shared.parts.metrics.handlers.set(running);
    }

    /// One attempt, and what follows from it.
    async fn run(self, held: Held<Key, Job>) {
        let Held { key, item: job } = held;
        let metrics = &self.shared.parts.metrics;
        match self.attempt(&job).await {
            Attempt::Cancelled => drop(job),
            Attempt::Expired => {
                metrics.expired.inc();
                job.in_flight.ack();
            }
            Attempt::Done(Err(failure)) if failure.kind() == Kind::NotExecuted => {
                self.shared.dispatch.lock().pause();
                self.start_ready();
                self.resume_when_open(Held { key, item: job }).await;
                return;
            }
            Attempt::Done(Err(failure)) if failure.kind() == Kind::Skipped => {
                metrics.skipped("bad_value");
                self.log_failure(&job.request, &failure, "skipping a request");
                job.in_flight.ack();
            }
            Attempt::Done(outcome) if job.request.wants_reply() => self.reply(job, outcome).await,
            Attempt::TimedOut if job.request.wants_reply() => {
                metrics.too_late.inc();
                metrics.handled(true);
                if job.request.deadline().is_some() {
                    // Its caller has given up.
                    job.in_flight.ack();
                } else {
                    let failure = Failure::new(Status::GATEWAY_TIMEOUT, "the service took too long");
                    self.send(job, Err(failure)).await;
                }
            }
            Attempt::Done(Ok(_)) => {
                metrics.handled(false);
                self.set_failing(&job, None);
                job.in_flight.ack();
            }
            Attempt::Done(Err(failure)) => {
                metrics.handled(true);
                self.on_failed_attempt(Held { key, item: job }, failure.to_string())
                    .await;
                return;
            }
            Attempt::TimedOut => {
                metrics.too_late.inc();
                metrics.handled(true);
                let cause = format!("not done within {:?}", self.shared.parts.default_timeout);
                self.on_failed_attempt(Held { key, item: job }, cause).await;
                return;
            }
        }
        self.shared.dispatch.lock().finish(key);
        self.start_ready();
    }

    async fn attempt(&self, job: &Job) -> Attempt {
        let mut phase = job.phase.clone();
        if *phase.borrow() == Phase::Ended {
            return Attempt::Cancelled;
        }
        let limit = match job.request.deadline() {
            Some(deadline) => deadline,
            None => Instant::now() + self.shared.parts.default_timeout,
        };
        if limit <= Instant::now() {
            return Attempt::Expired;
        }
        let _running = Running::begin(&self.shared);
        let future = job.service.handler().clone().call(job.request.clone());
        let mut task = self.shared.parts.runtime.spawn(future);
        tokio::select! {
            // Biased: a handler that is done is done, whatever else has happened.
            biased;
            ended = &mut task => self.ended(ended).map_or(Attempt::Cancelled, Attempt::Done),
            () = wait_for_end(&mut phase) => {
                task.abort();
                // Until then its key is held: a handler that blocks its thread still runs.
                let _ = task.await;
                Attempt::Cancelled
            }
            () = sleep_until(limit) => {
                task.abort();
                let mut blocks = std::pin::pin!(sleep(ABORT_GRACE));
                let mut is_logged = false;
                let ended = loop {
                    tokio::select! {
                        ended = &mut task => break ended,
                        () = &mut blocks, if !is_logged => {
                            is_logged = true;
                            warn!(request = %place(&job.request), "a handler blocks its thread beyond its deadline");
                        }
                    }
                };
                match self.ended(ended) {
                    Some(outcome) => Attempt::Done(outcome),
                    None => Attempt::TimedOut,
                }
            }
        }
    }

    /// The outcome of a handler; `None` if it was dropped.
    fn ended(&self, ended: Result<Outcome, JoinError>) -> Option<Outcome> {
        match ended {
            Ok(outcome) => Some(outcome),
            Err(error) if error.is_panic() => {
                self.shared.parts.metrics.panics.inc();
                Some(Err(panicked(&*error.into_panic())))
            }
            Err(_dropped) => None,
        }
    }

    async fn reply(&self, job: Job, outcome: Outcome) {
        self.shared.parts.metrics.handled(outcome.is_err());
        self.send(job, outcome).await;
    }

    async fn send(&self, job: Job, outcome: Outcome) {
        if let Err(failure) = &outcome
            && failure.status().is_server_error()
        {
            self.log_failure(&job.request, failure, "a handler failed");
        }
        let Job { request, in_flight, .. } = job;
        let replies = &self.shared.parts.replies;
        let is_wanted = || {
            let deadline = request.deadline();
            deadline.is_none_or(|deadline| Instant::now() < deadline)
        };
        if let Err(skipped) = send_reply(replies, &request, outcome, in_flight, is_wanted).await {
            self.shared.parts.metrics.skipped(skipped.reason());
            skipped.log(&mut self.shared.log_limiter.lock(), request.record());
        }
    }

    /// No caller waits: the request is tried again, or is a dead letter.
    async fn on_failed_attempt(&self, mut held: Held<Key, Job>, cause: String) {
        let job = &mut held.item;
        job.failed_attempts += 1;
        let attempt = job.failed_attempts;
        if let Some(suppressed) = self.shared.log_limiter.lock().allow() {
            warn!(request = %place(&job.request), attempt, cause, suppressed, "an attempt failed");
        }
        // Dead letters and pauses take no place from other requests.
        self.shared.dispatch.lock().pause();
        self.start_ready();
        if attempt >= retry::ATTEMPTS {
            match &self.shared.parts.dead_letters {
                Some(dead_letters) => return self.write_dead_letter(dead_letters, held, cause).await,
                None => self.set_failing(&held.item, Some(format!("{cause}; DEAD_LETTER_TOPIC is not set"))),
            }
        }
        if self.pause(&mut held.item, retry::pause(attempt)).await {
            self.resume(held);
        } else {
            self.abandon(held);
        }
    }

    async fn write_dead_letter(&self, dead_letters: &DeadLetters, mut held: Held<Key, Job>, cause: String) {
        let mut attempt = 1;
        while let Err(error) = dead_letters.write(&held.item.request, &cause).await {
            let topic = dead_letters.topic();
            self.set_failing(
                &held.item,
                Some(format!("cannot write to DEAD_LETTER_TOPIC {topic}: {error}")),
            );
            if !self.pause(&mut held.item, retry::pause(attempt)).await {
                return self.abandon(held);
            }
            attempt += 1;
        }
        let Held { key, item: job } = held;
        self.set_failing(&job, None);
        self.shared.parts.metrics.dead_letters.inc();
        info!(request = %place(&job.request), cause, "written to the dead letters");
        job.in_flight.ack();
        self.shared.dispatch.lock().release(key);
        self.start_ready();
    }

    /// The service is not there. That was no attempt.
    async fn resume_when_open(&self, held: Held<Key, Job>) {
        let mut phase = held.item.phase.clone();
        let deadline = held.item.request.deadline();
        let gave_up = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.shared.parts.gate.opened() => self.resume(held),
            () = gave_up => {
                let Held { key, item: job } = held;
                self.shared.parts.metrics.expired.inc();
                job.in_flight.ack();
                self.shared.dispatch.lock().release(key);
                self.start_ready();
            }
            () = wait_for_stop(&mut phase) => self.abandon(held),
        }
    }

    /// Waits. `false` if the partition stops meanwhile.
    async fn pause(&self, job: &mut Job, pause: Duration) -> bool {
        tokio::select! {
            () = sleep(pause) => true,
            () = wait_for_stop(&mut job.phase) => false,
        }
    }

    fn resume(&self, held: Held<Key, Job>) {
        self.shared
            .waiting_bytes
            .fetch_add(held.item.size_bytes(), Ordering::Relaxed);
        self.shared.dispatch.lock().resume(held);
        self.start_ready();
    }

    /// Drops a request without an acknowledgement, and those that wait for its key.
    fn abandon(&self, held: Held<Key, Job>) {
        let Held { key, item: job } = held;
        self.set_failing(&job, None);
        let behind = self.shared.dispatch.lock().abandon(key);
        let bytes = behind.iter().map(Job::size_bytes).sum();
        self.shared.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.shared.room.notify_waiters();
    }

    /// Names a request in `/ready` while it is tried on, and not any more.
    fn set_failing(&self, job: &Job, cause: Option<String>) {
        let place = place(&job.request);
        let mut failing = self.shared.failing.lock();
        match cause {
            Some(cause) => _ = failing.insert(place, cause),
            None if failing.remove(&place).is_none() => return,
            None => {}
        }
        let first = failing.first_key_value();
        let first = first.map(|(place, cause)| format!("{place}: {cause} (one of {})", failing.len()));
        drop(failing);
        match first {
            Some(first) => self.shared.parts.retries.not_ready(&first),
            None => self.shared.parts.retries.ready(),
        }
    }

    fn log_failure(&self, request: &Request, failure: &Failure, what: &str) {
        if let Some(suppressed) = self.shared.log_limiter.lock().allow() {
            warn!(request = %place(request), cause = %failure, suppressed, "{what}");
        }
    }
}

// === impl Job ===

impl Job {
    fn size_bytes(&self) -> usize {
        let key = self.request.key().map_or(0, <[u8]>::len);
        key + self.request.body().len() + self.request.record_headers().encoded().len()
    }
}

// === impl Running ===

impl<'a> Running<'a> {
    fn begin(shared: &'a Shared) -> Self {
        let number = shared.next_number.fetch_add(1, Ordering::Relaxed);
        shared.running.lock().insert(number, Instant::now());
        Self { shared, number }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.shared.running.lock().remove(&self.number);
    }
}

/// Topic, partition and offset of a request.
fn place(request: &Request) -> String {
    format!("{}/{}/{}", request.topic(), request.partition(), request.offset())
}

/// The failure of a handler that panicked.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    let text = text.unwrap_or_else(|| "no text".to_owned());
    Failure::internal(format!("the handler panicked: {text}").into())
}

async fn wait_for_stop(phase: &mut watch::Receiver<Phase>) {
    // An error means that the partition has ended.
    let _ = phase.wait_for(|phase| *phase >= Phase::Stopping).await;
}

async fn wait_for_end(phase: &mut watch::Receiver<Phase>) {
    let _ = phase.wait_for(|phase| *phase == Phase::Ended).await;
}

#[cfg(test)]
mod tests;
