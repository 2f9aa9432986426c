//! Handles requests within the bounds of [`dispatch`](crate::dispatch): makes [`attempts`](crate::attempts), and decides what
//! follows from each.
//!
//! - Where no caller waits, a failed request is tried again, then written to the dead letters. Meanwhile it holds its key.
//! - When its partition stops, a request that waits for its next attempt is given up, and with it those behind it. It is not
//!   acknowledged: the next owner of the partition has it again.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use shared::{headers::ReplyTo, log_limiter::LogLimiter, readiness::HealthCheck, tasks::Tasks};
use tokio::{
    runtime::Handle,
    sync::Notify,
    time::{sleep, sleep_until},
};
use tracing::{info, warn};

use crate::{
    Failure, Request, Status,
    attempts::{Attempt, Attempts},
    dead_letters::DeadLetters,
    dispatch::{Dispatch, Held},
    failure::Kind,
    gate::Gate,
    handler::Outcome,
    job::{Job, Phase, wait_for},
    metrics::Metrics,
    reply_producers::ReplyProducers,
    retry,
    send_reply::send_reply,
    skipped::Skipped,
};

/// The bytes of requests that wait to be handled, over all partitions. With as many, no partition is polled.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// Topic, partition and key of a request.
type Key = (Arc<str>, i32, Bytes);

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
    attempts: Attempts,
    dispatch: Mutex<Dispatch<Key, Job>>,
    waiting_bytes: AtomicUsize,
    /// Fewer bytes wait.
    room: Notify,
    /// The requests that failed at every attempt and are tried on, with the cause.
    failing: Mutex<BTreeMap<String, String>>,
    log_limiter: Mutex<LogLimiter>,
}

// === impl Executor ===

impl Executor {
    pub(crate) fn new(parts: Parts) -> Self {
        parts.retries.ready();
        Self {
            shared: Arc::new(Shared {
                attempts: Attempts::new(
                    parts.runtime.clone(),
                    parts.default_timeout,
                    parts.metrics.panics.clone(),
                ),
                dispatch: Mutex::new(Dispatch::new(parts.concurrency)),
                parts,
                waiting_bytes: AtomicUsize::new(0),
                room: Notify::new(),
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
        self.shared.attempts.oldest()
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
        match self.shared.attempts.run(&job).await {
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
                self.log_failure(&job, &failure, "skipping a request");
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

    async fn reply(&self, job: Job, outcome: Outcome) {
        self.shared.parts.metrics.handled(outcome.is_err());
        self.send(job, outcome).await;
    }

    async fn send(&self, job: Job, outcome: Outcome) {
        if let Err(failure) = &outcome
            && failure.status().is_server_error()
        {
            self.log_failure(&job, failure, "a handler failed");
        }
        let Job { request, in_flight, .. } = job;
        let replies = &self.shared.parts.replies;
        let unsent = match ReplyTo::from_headers(request.record_headers()) {
            Ok(reply_to) => send_reply(replies, &request, reply_to, outcome, in_flight),
            // The headers were valid when the request was read.
            Err(malformed) => {
                in_flight.ack();
                return self.skip(&Skipped::Headers(malformed), &request);
            }
        };
        if let Some(unsent) = unsent
            && let Err((skipped, request)) = unsent.send(replies).await
        {
            self.skip(&skipped, &request);
        }
    }

    fn skip(&self, skipped: &Skipped, request: &Request) {
        self.shared.parts.metrics.skipped(skipped.reason());
        skipped.log(&mut self.shared.log_limiter.lock(), request.record());
    }

    /// No caller waits: the request is tried again, or is a dead letter.
    async fn on_failed_attempt(&self, mut held: Held<Key, Job>, cause: String) {
        let job = &mut held.item;
        job.failed_attempts += 1;
        let attempt = job.failed_attempts;
        if let Some(suppressed) = self.shared.log_limiter.lock().allow() {
            warn!(request = %job.place(), attempt, cause, suppressed, "an attempt failed");
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
        info!(request = %job.place(), cause, "written to the dead letters");
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
            () = wait_for(&mut phase, Phase::Stopping) => self.abandon(held),
        }
    }

    /// Waits. `false` if the partition stops meanwhile.
    async fn pause(&self, job: &mut Job, pause: Duration) -> bool {
        tokio::select! {
            () = sleep(pause) => true,
            () = wait_for(&mut job.phase, Phase::Stopping) => false,
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
        let place = job.place();
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

    fn log_failure(&self, job: &Job, failure: &Failure, what: &str) {
        if let Some(suppressed) = self.shared.log_limiter.lock().allow() {
            warn!(request = %job.place(), cause = %failure, suppressed, "{what}");
        }
    }
}

#[cfg(test)]
mod tests;
