//! What a run gives back: settings, counts, latencies.

use crate::{
    load::{Load, Until},
    outcomes::Outcomes,
    request::RunId,
    schedule::Schedule,
    tally::Tally,
};
use hdrhistogram::Histogram;
use std::time::Duration;
use tokio::time::Instant;

/// The result of a [`Load`]. It is plain data; what counts as good is up to the reader.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was asked for.
    pub load: Load,
    /// What the names and values of this run's requests have in common.
    pub run: String,
    /// What became of the measured requests.
    pub outcomes: Outcomes,
    /// What became of the requests of the warm-up.
    pub warmup: Outcomes,
    /// The latency of the right answers to measured requests, in microseconds, with three digits of precision.
    pub latency: Histogram<u64>,
    /// When the measured part began, or would have begun if the run was stopped before.
    pub began: Instant,
    /// How long the measured part was: as long as it was meant to be, or until it was interrupted, or, where a number
    /// of requests was meant, until the last right answer.
    pub elapsed: Duration,
    /// Right answers that came within `elapsed`, also those to requests of the warm-up. A few more may have come after it.
    pub ok_in_time: u64,
    /// Connections opened, from the beginning on.
    pub connections_opened: u64,
    /// Requests sent a second time, see [`Load::retry`].
    pub retries: u64,
    /// The first few different wrong answers, in words.
    pub first_wrong: Vec<String>,
    /// The first few different connection errors, in words.
    pub first_errors: Vec<String>,
    /// Whether the run was stopped before its end; requests in flight at that moment are in no count.
    pub interrupted: bool,
}

// === impl Report ===

impl Report {
    pub(crate) fn new(
        load: Load,
        run: &RunId,
        tally: &mut Tally,
        schedule: &Schedule,
        interrupted: Option<Instant>,
    ) -> Self {
        let end = interrupted.or(match load.until {
            Until::Elapsed(_) => schedule.end(),
            Until::Requests(_) => tally.last_ok,
        });
        // Interrupted after the end, while stragglers were waited for, it is still the end.
        let end = end.map(|end| schedule.end().map_or(end, |planned| end.min(planned)));
        Self {
            load,
            run: run.as_str().to_owned(),
            outcomes: std::mem::take(&mut tally.measured),
            warmup: std::mem::take(&mut tally.warmup),
            latency: tally.latency.clone(),
            began: schedule.measured_from(),
            elapsed: end.map_or(Duration::ZERO, |end| {
                end.saturating_duration_since(schedule.measured_from())
            }),
            ok_in_time: tally.ok_in_time,
            connections_opened: tally.opened,
            retries: tally.retries,
            first_wrong: std::mem::take(&mut tally.first_wrong),
            first_errors: std::mem::take(&mut tally.first_errors),
            interrupted: interrupted.is_some(),
        }
    }

    /// Right answers per second, over the measured part.
    pub fn throughput(&self) -> f64 {
        if self.elapsed.is_zero() {
            0.0
        } else {
            self.ok_in_time as f64 / self.elapsed.as_secs_f64()
        }
    }

    /// The latency that this share (0 to 1) of the right answers did not exceed; zero if there was none.
    pub fn latency_at(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.latency.value_at_quantile(quantile))
    }

    /// Wrong answers, those of the warm-up included.
    pub fn wrong_total(&self) -> u64 {
        self.outcomes.wrong_total() + self.warmup.wrong_total()
    }
}
