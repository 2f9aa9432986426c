//! The counts of a run while it runs.
//!
//! One for all connections, since a histogram for each would be 150 KB times ten thousand. It is behind a lock that is
//! held for some tens of nanoseconds and, with one thread, is never waited for.

use crate::{answer::Wrong, outcomes::Outcomes, schedule::Turn, seen::Seen};
use hdrhistogram::Histogram;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How many wrong answers, and how many connection errors, are kept word for word.
const MAX_SAMPLES: usize = 5;

/// What became of one request.
#[derive(Debug)]
pub(crate) enum Outcome {
    Ok(Uuid),
    /// With what was seen.
    Wrong(Wrong, String),
    Status(u16),
    /// None came about; with the error in words.
    NoConnection(String),
    /// It was closed too early; with the error in words.
    ConnectionError(String),
    Timeout,
    SendError,
}

/// Everything that is counted.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) warmup: Outcomes,
    pub(crate) measured: Outcomes,
    /// Of the right answers, in microseconds.
    pub(crate) latency: Histogram<u64>,
    /// The measured part, if its end is known: the answers that come in it are the throughput, also those to requests of
    /// the warm-up. (Else a second with 10,000 connections would lack the answers of its first half.)
    window: Option<(Instant, Instant)>,
    pub(crate) ok_in_time: u64,
    pub(crate) last_ok: Option<Instant>,
    /// Where the words cannot tell two answers apart.
    seen: Option<Seen>,
    pub(crate) opened: u64,
    pub(crate) retries: u64,
    pub(crate) first_wrong: Vec<String>,
    pub(crate) first_errors: Vec<String>,
}

// === impl Tally ===

impl Tally {
    pub(crate) fn new(timeout: Duration, seen: Option<Seen>) -> Self {
        // No right answer takes longer than to wait and to be answered within the timeout each; three digits are the
        // usual precision.
        let highest = micros(timeout).saturating_mul(2).saturating_add(1_000_000);
        let latency = Histogram::new_with_bounds(1, highest, 3).expect("the bounds are at least two apart");
        Self {
            warmup: Outcomes::default(),
            measured: Outcomes::default(),
            latency,
            window: None,
            ok_in_time: 0,
            last_ok: None,
            seen,
            opened: 0,
            retries: 0,
            first_wrong: Vec::new(),
            first_errors: Vec::new(),
        }
    }

    pub(crate) fn measure_between(&mut self, begin: Instant, end: Option<Instant>) {
        self.window = end.map(|end| (begin, end));
    }

    /// Counts what became of a turn, ended at this instant.
    pub(crate) fn record(&mut self, turn: &Turn, outcome: Outcome, ended: Instant) {
        let outcome = self.unrepeated(outcome);
        let counts = if turn.is_measured {
            &mut self.measured
        } else {
            &mut self.warmup
        };
        match outcome {
            Outcome::Ok(_) => {
                counts.ok += 1;
                let is_in_time = self
                    .window
                    .map_or(turn.is_measured, |(begin, end)| (begin..=end).contains(&ended));
                self.ok_in_time += u64::from(is_in_time);
                if turn.is_measured {
                    self.latency
                        .saturating_record(micros(ended.saturating_duration_since(turn.due)));
                    self.last_ok = Some(ended);
                }
            }
            Outcome::Wrong(wrong, sample) => {
                *counts.wrong.entry(wrong).or_default() += 1;
                keep(&mut self.first_wrong, format!("{}: {sample}", wrong.as_str()));
            }
            Outcome::Status(status) => *counts.statuses.entry(status).or_default() += 1,
            Outcome::NoConnection(error) | Outcome::ConnectionError(error) => {
                counts.connection_errors += 1;
                keep(&mut self.first_errors, error);
            }
            Outcome::Timeout => counts.timeouts += 1,
            Outcome::SendError => counts.unsent += 1,
        }
    }

    fn unrepeated(&mut self, outcome: Outcome) -> Outcome {
        if let (Outcome::Ok(id), Some(seen)) = (&outcome, &mut self.seen)
            && !seen.insert(*id)
        {
            return Outcome::Wrong(Wrong::Repeated, id.to_string());
        }
        outcome
    }
}

/// Whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A refused connect reads the same a thousand times; once is enough.
fn keep(samples: &mut Vec<String>, sample: String) {
    if samples.len() < MAX_SAMPLES && !samples.contains(&sample) {
        samples.push(sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(is_measured: bool) -> Turn {
        Turn {
            number: 0,
            due: Instant::now(),
            is_measured,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_warm_up_is_counted_apart() {
        let mut tally = Tally::new(Duration::from_secs(1), None);
        let now = Instant::now();
        tally.record(&turn(false), Outcome::Ok(Uuid::new_v4()), now);
        tally.record(&turn(false), Outcome::Wrong(Wrong::Foreign, String::new()), now);
        tally.record(&turn(true), Outcome::Status(503), now);
        tally.record(&turn(true), Outcome::Timeout, now);
        assert_eq!(
            (tally.warmup.ok, tally.warmup.wrong_total(), tally.warmup.total()),
            (1, 1, 2)
        );
        assert_eq!(tally.measured.statuses.get(&503), Some(&1));
        assert_eq!(tally.measured.total(), 2);
        assert_eq!(tally.latency.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn latency_is_from_the_due_instant_and_throughput_within_the_end() {
        let mut tally = Tally::new(Duration::from_secs(1), None);
        let begin = Instant::now();
        tally.measure_between(begin, Some(begin + Duration::from_millis(10)));
        for millis in [10, 11] {
            tally.record(
                &turn(true),
                Outcome::Ok(Uuid::new_v4()),
                begin + Duration::from_millis(millis),
            );
        }
        assert_eq!((tally.measured.ok, tally.ok_in_time), (2, 1));
        assert!(tally.latency.min() >= 9_990 && tally.latency.max() <= 11_010);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_in_the_measured_part_is_throughput_even_if_its_request_was_warm_up() {
        let mut tally = Tally::new(Duration::from_secs(1), None);
        let begin = Instant::now() + Duration::from_millis(5);
        tally.measure_between(begin, Some(begin + Duration::from_millis(10)));
        for millis in [4, 5, 15, 16] {
            let ended = Instant::now() + Duration::from_millis(millis);
            tally.record(&turn(false), Outcome::Ok(Uuid::new_v4()), ended);
        }
        assert_eq!((tally.warmup.ok, tally.measured.ok, tally.ok_in_time), (4, 0, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_repeated_id_is_a_wrong_answer_where_ids_are_watched() {
        let id = Uuid::new_v4();
        for (seen, wrong) in [(None, 0), (Some(Seen::new()), 1)] {
            let mut tally = Tally::new(Duration::from_secs(1), seen);
            for _ in 0..2 {
                tally.record(&turn(true), Outcome::Ok(id), Instant::now());
            }
            assert_eq!(tally.measured.wrong_total(), wrong);
        }
    }
}
