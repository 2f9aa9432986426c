//! When each request is due, and which connection sends it.
//!
//! There is no dispatcher. In the open loop idle connections queue for one permit. The holder takes the next request, waits
//! until it is due, and releases the permit. While all connections are busy requests become overdue; they are sent in
//! order as connections become idle, each with the instant it was due at. In the closed loop a request is due when a
//! connection takes it.

use crate::{
    load::{Mode, Until},
    timer::PreciseTimer,
};
use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};

/// A request to send now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Arrival {
    /// Counts from 0, the warm-up included.
    pub(crate) number: u64,
    /// The instant that latency counts from.
    pub(crate) due: Instant,
    pub(crate) is_measured: bool,
}

#[derive(Debug)]
pub(crate) struct Pacer {
    begin: Instant,
    pub(crate) measured_from: Instant,
    until: Until,
    taken: AtomicU64,
    taken_measured: AtomicU64,
    open_loop: Option<OpenLoop>,
}

#[derive(Debug)]
struct OpenLoop {
    /// Requests per second.
    rate: f64,
    /// One permit; tokio's semaphore is first come, first served.
    queue: Semaphore,
    queued: AtomicUsize,
    timer: PreciseTimer,
    /// A request is due, and no idle connection is left for the next one.
    no_idle_connection: Notify,
}

// === impl Pacer ===

impl Pacer {
    /// The run begins now. `timer` is for the open loop.
    pub(crate) fn new(mode: Mode, warmup: Duration, until: Until, timer: PreciseTimer) -> Self {
        let begin = Instant::now();
        let open_loop = match mode {
            Mode::Closed { .. } => None,
            Mode::Open { rate, .. } => Some(OpenLoop {
                rate,
                queue: Semaphore::new(1),
                queued: AtomicUsize::new(0),
                timer,
                no_idle_connection: Notify::new(),
            }),
        };
        Self {
            begin,
            measured_from: begin + warmup,
            until,
            taken: AtomicU64::new(0),
            taken_measured: AtomicU64::new(0),
            open_loop,
        }
    }

    /// Waits until the next request is due. `None` at the end of the run.
    pub(crate) async fn next(&self) -> Option<Arrival> {
        let Some(open_loop) = &self.open_loop else {
            return self.take(Instant::now());
        };
        open_loop.queued.fetch_add(1, Ordering::Relaxed);
        let permit = open_loop.queue.acquire().await;
        open_loop.queued.fetch_sub(1, Ordering::Relaxed);
        // Only the holder of the permit takes requests, so `take` gives out this number.
        let offset = self.taken.load(Ordering::Relaxed) as f64 / open_loop.rate;
        // A run does not last longer than a duration can express.
        let due = self.begin.checked_add(Duration::try_from_secs_f64(offset).ok()?)?;
        let arrival = self.take(due)?;
        open_loop.timer.wait_until(due).await;
        drop(permit);
        if open_loop.queued.load(Ordering::Relaxed) == 0 {
            open_loop.no_idle_connection.notify_one();
        }
        Some(arrival)
    }

    fn take(&self, due: Instant) -> Option<Arrival> {
        let is_measured = due >= self.measured_from;
        let is_over = is_measured
            && match self.until {
                Until::Elapsed(duration) => due >= self.measured_from + duration,
                Until::Requests(max) => self.taken_measured.fetch_add(1, Ordering::Relaxed) >= max,
            };
        (!is_over).then(|| Arrival {
            number: self.taken.fetch_add(1, Ordering::Relaxed),
            due,
            is_measured,
        })
    }

    /// Waits until a request is due and no idle connection is left for the next one. Never, in the closed loop.
    pub(crate) async fn no_idle_connection(&self) {
        match &self.open_loop {
            Some(open_loop) => open_loop.no_idle_connection.notified().await,
            None => std::future::pending().await,
        }
    }

    pub(crate) fn is_closed_loop(&self) -> bool {
        self.open_loop.is_none()
    }

    /// When the measured part ends, if that is known beforehand.
    pub(crate) fn end(&self) -> Option<Instant> {
        match self.until {
            Until::Elapsed(duration) => Some(self.measured_from + duration),
            Until::Requests(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
