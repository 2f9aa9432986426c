//! Attempts to handle a request: each is a task on the runtime of the user, until the deadline of the request.
//!
//! - A panic is a failure. A handler that blocks its thread delays other handlers only.
//! - An attempt has ended when its handler has, not when the handler was told to end.

use std::{
    any::Any,
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::{
    runtime::Handle,
    task::JoinError,
    time::{Instant, sleep, sleep_until},
};
use tracing::warn;

use crate::{
    Failure,
    handler::Outcome,
    job::{Job, Phase, wait_for},
};

/// How long a handler may take to end after its deadline before the log says that it blocks.
const ABORT_GRACE: Duration = Duration::from_secs(5);

/// Makes the attempts, and knows those that run.
#[derive(Debug)]
pub(crate) struct Attempts {
    runtime: Handle,
    /// The bound on a handler whose request has no deadline.
    default_timeout: Duration,
    panics: Counter,
    /// The handlers that run, by number, with their beginnings.
    running: Mutex<BTreeMap<u64, Instant>>,
    next_number: AtomicU64,
}

/// How an attempt has ended.
pub(crate) enum Attempt {
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
    attempts: &'a Attempts,
    number: u64,
}

// === impl Attempts ===

impl Attempts {
    pub(crate) fn new(runtime: Handle, default_timeout: Duration, panics: Counter) -> Self {
        Self {
            runtime,
            default_timeout,
            panics,
            running: Mutex::default(),
            next_number: AtomicU64::new(0),
        }
    }

    /// How long the oldest running handler has run.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        let running = self.running.lock();
        running.first_key_value().map(|(_, begun)| begun.elapsed())
    }

    /// Runs the handler of a request once.
    pub(crate) async fn run(&self, job: &Job) -> Attempt {
        let mut phase = job.phase.clone();
        if *phase.borrow() == Phase::Ended {
            return Attempt::Cancelled;
        }
        let limit = match job.request.deadline() {
            Some(deadline) => deadline,
            None => Instant::now() + self.default_timeout,
        };
        if limit <= Instant::now() {
            return Attempt::Expired;
        }
        let _running = Running::begin(self);
        let future = job.service.handler().clone().call(job.request.clone());
        let mut task = self.runtime.spawn(future);
        tokio::select! {
            // Biased: a handler that is done is done, whatever else has happened.
            biased;
            ended = &mut task => self.outcome(ended).map_or(Attempt::Cancelled, Attempt::Done),
            () = wait_for(&mut phase, Phase::Ended) => {
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
                            warn!(request = %job.place(), "a handler blocks its thread beyond its deadline");
                        }
                    }
                };
                self.outcome(ended).map_or(Attempt::TimedOut, Attempt::Done)
            }
        }
    }

    /// The outcome of a handler; `None` if it was dropped.
    fn outcome(&self, ended: Result<Outcome, JoinError>) -> Option<Outcome> {
        match ended {
            Ok(outcome) => Some(outcome),
            Err(error) if error.is_panic() => {
                self.panics.inc();
                Some(Err(panicked(&*error.into_panic())))
            }
            Err(_dropped) => None,
        }
    }
}

// === impl Running ===

impl<'a> Running<'a> {
    fn begin(attempts: &'a Attempts) -> Self {
        let number = attempts.next_number.fetch_add(1, Ordering::Relaxed);
        attempts.running.lock().insert(number, Instant::now());
        Self { attempts, number }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.attempts.running.lock().remove(&self.number);
    }
}

/// The failure of a handler that panicked.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    let text = text.unwrap_or_else(|| "no text".to_owned());
    Failure::internal(format!("the handler panicked: {text}").into())
}
