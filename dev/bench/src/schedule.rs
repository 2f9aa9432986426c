//! When each request is due, and which connection takes it.
//!
//! There is no dispatcher and no queue. Idle connections queue at a gate; whoever is through it takes the next
//! request, waits until it is due and leaves the gate to the next one. While all connections are busy nobody is at the
//! gate, and requests become overdue: they are taken in order, each with the instant it was due at, as soon as
//! somebody comes. In the closed loop there is nothing to wait for, and a request is due when it is taken.

use crate::{
    alarm::Alarm,
    load::{Mode, Until},
};
use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};

/// A request that somebody has to send now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Turn {
    /// Counts from 0 through warm-up and measurement.
    pub(crate) number: u64,
    /// What its latency is measured from.
    pub(crate) due: Instant,
    pub(crate) is_measured: bool,
}

/// Gives out the turns of a run.
#[derive(Debug)]
pub(crate) struct Schedule {
    begin: Instant,
    measured_from: Instant,
    until: Until,
    taken: AtomicU64,
    taken_measured: AtomicU64,
    pace: Option<Pace>,
}

/// What only the open loop has.
#[derive(Debug)]
struct Pace {
    rate: f64,
    /// One permit: whoever has it waits for the next request. The order of waiting is the order of arrival.
    gate: Semaphore,
    at_gate: AtomicUsize,
    alarm: Alarm,
    /// Told when somebody left the gate and nobody else was at it.
    deserted: Notify,
}

// === impl Schedule ===

impl Schedule {
    /// A schedule that begins now. The alarm is for the open loop.
    pub(crate) fn new(mode: Mode, warmup: Duration, until: Until, alarm: Option<Alarm>) -> Self {
        let begin = Instant::now();
        let pace = match (mode, alarm) {
            (Mode::Open { rate, .. }, Some(alarm)) => Some(Pace {
                rate,
                gate: Semaphore::new(1),
                at_gate: AtomicUsize::new(0),
                alarm,
                deserted: Notify::new(),
            }),
            _ => None,
        };
        Self {
            begin,
            measured_from: begin + warmup,
            until,
            taken: AtomicU64::new(0),
            taken_measured: AtomicU64::new(0),
            pace,
        }
    }

    /// Waits for the next request to be due; `None` when there are no more.
    pub(crate) async fn next(&self) -> Option<Turn> {
        match &self.pace {
            None => self.take(Instant::now()),
            Some(pace) => self.next_at(pace).await,
        }
    }

    async fn next_at(&self, pace: &Pace) -> Option<Turn> {
        pace.at_gate.fetch_add(1, Ordering::Relaxed);
        let permit = pace.gate.acquire().await;
        pace.at_gate.fetch_sub(1, Ordering::Relaxed);
        // Only who holds the permit takes turns, so the number read here is the one that is taken.
        let offset = self.taken.load(Ordering::Relaxed) as f64 / pace.rate;
        // Beyond what a duration holds there is no run.
        let due = self.begin.checked_add(Duration::try_from_secs_f64(offset).ok()?)?;
        let turn = self.take(due)?;
        pace.alarm.reach(due).await;
        drop(permit);
        if pace.at_gate.load(Ordering::Relaxed) == 0 {
            pace.deserted.notify_one();
        }
        Some(turn)
    }

    fn take(&self, due: Instant) -> Option<Turn> {
        let is_measured = due >= self.measured_from;
        if is_measured {
            match self.until {
                Until::Elapsed(_) if self.end().is_some_and(|end| due >= end) => return None,
                Until::Requests(max) if self.taken_measured.fetch_add(1, Ordering::Relaxed) >= max => {
                    return None;
                }
                _ => {}
            }
        }
        Some(Turn {
            number: self.taken.fetch_add(1, Ordering::Relaxed),
            due,
            is_measured,
        })
    }

    /// Waits until a request is due and no connection is free for the one after it. Never, in the closed loop.
    pub(crate) async fn deserted(&self) {
        match &self.pace {
            Some(pace) => pace.deserted.notified().await,
            None => std::future::pending().await,
        }
    }

    pub(crate) fn is_closed_loop(&self) -> bool {
        self.pace.is_none()
    }

    pub(crate) fn measured_from(&self) -> Instant {
        self.measured_from
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
