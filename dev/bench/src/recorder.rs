//! Counts and latencies of a run.
//!
//! All connections share one recorder, since a histogram takes 150 KB. Its lock is held for tens of nanoseconds.

use crate::{
    client::Exchange,
    duplicates::RecentIds,
    outcome::{Outcome, OutcomeCounts, Wrong},
    pacer::Arrival,
};
use hdrhistogram::Histogram;
use std::time::Duration;
use tokio::time::Instant;

/// Samples kept of wrong responses, and of connection errors.
const MAX_SAMPLES: usize = 5;

#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) warmup: OutcomeCounts,
    pub(crate) measured: OutcomeCounts,
    /// Of right responses to measured requests, in microseconds.
    pub(crate) latency: Histogram<u64>,
    /// The measured part, if its end is known beforehand. Throughput counts all responses in it, also those to requests of
    /// the warm-up; otherwise it would be too low by the requests in flight at the beginning.
    window: Option<(Instant, Instant)>,
    pub(crate) ok_in_window: u64,
    pub(crate) last_ok: Option<Instant>,
    /// For `GET`, whose responses differ by their ids only.
    recent_ids: Option<RecentIds>,
    pub(crate) connections_opened: u64,
    pub(crate) first_wrong: Vec<String>,
    pub(crate) first_errors: Vec<String>,
}

// === impl Recorder ===

impl Recorder {
    pub(crate) fn new(timeout: Duration, window: Option<(Instant, Instant)>, recent_ids: Option<RecentIds>) -> Self {
        // A request waits at most one timeout for a connection and one for its response.
        let highest = micros(timeout).saturating_mul(2).saturating_add(1_000_000);
        let latency = Histogram::new_with_bounds(1, highest, 3).expect("the bounds are at least two apart");
        Self {
            warmup: OutcomeCounts::default(),
            measured: OutcomeCounts::default(),
            latency,
            window,
            ok_in_window: 0,
            last_ok: None,
            recent_ids,
            connections_opened: 0,
            first_wrong: Vec::new(),
            first_errors: Vec::new(),
        }
    }

    /// Counts a completed request. Returns its outcome: an id that was seen before makes the response wrong.
    pub(crate) fn record(&mut self, arrival: &Arrival, exchange: Exchange, ended: Instant) -> Outcome {
        let Exchange {
            mut outcome,
            id,
            mut detail,
        } = exchange;
        if let (Some(id), Some(recent_ids)) = (id, &mut self.recent_ids)
            && !recent_ids.insert(id)
        {
            outcome = Outcome::Wrong(Wrong::Repeated);
            detail = id.to_string();
        }
        if arrival.is_measured {
            self.measured.add(outcome);
        } else {
            self.warmup.add(outcome);
        }
        match outcome {
            Outcome::Ok => self.record_latency(arrival, ended),
            Outcome::Wrong(wrong) => keep_sample(&mut self.first_wrong, format!("{wrong:?}: {detail}")),
            Outcome::NoConnection | Outcome::ConnectionClosed => keep_sample(&mut self.first_errors, detail),
            _ => {}
        }
        outcome
    }

    fn record_latency(&mut self, arrival: &Arrival, ended: Instant) {
        let is_in_window = match self.window {
            Some((begin, end)) => (begin..=end).contains(&ended),
            None => arrival.is_measured,
        };
        self.ok_in_window += u64::from(is_in_window);
        if arrival.is_measured {
            let latency = ended.saturating_duration_since(arrival.due);
            self.latency.saturating_record(micros(latency));
            self.last_ok = Some(ended);
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Keeps different samples only.
fn keep_sample(samples: &mut Vec<String>, sample: String) {
    if samples.len() < MAX_SAMPLES && !samples.contains(&sample) {
        samples.push(sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const SECOND: Duration = Duration::from_secs(1);
    const MS: Duration = Duration::from_millis(1);

    fn arrival(is_measured: bool) -> Arrival {
        Arrival {
            number: 0,
            due: Instant::now(),
            is_measured,
        }
    }

    fn ok() -> Exchange {
        Exchange::ok(Uuid::new_v4())
    }

    #[tokio::test(start_paused = true)]
    async fn warmup_has_counts_of_its_own() {
        let mut recorder = Recorder::new(SECOND, None, None);
        let now = Instant::now();
        recorder.record(&arrival(false), ok(), now);
        recorder.record(
            &arrival(false),
            Exchange::failed(Outcome::Wrong(Wrong::Foreign), ""),
            now,
        );
        recorder.record(&arrival(true), Exchange::failed(Outcome::Status(503), ""), now);
        recorder.record(&arrival(true), Exchange::failed(Outcome::Timeout, ""), now);
        let warmup = &recorder.warmup;
        assert_eq!((warmup.ok, warmup.wrong_total(), warmup.total()), (1, 1, 2));
        assert_eq!(recorder.measured.statuses.get(&503), Some(&1));
        assert_eq!((recorder.measured.total(), recorder.latency.len()), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn latency_counts_from_the_due_instant() {
        let begin = Instant::now();
        let mut recorder = Recorder::new(SECOND, Some((begin, begin + 10 * MS)), None);
        for millis in [10, 11] {
            recorder.record(&arrival(true), ok(), begin + millis * MS);
        }
        assert_eq!((recorder.measured.ok, recorder.ok_in_window), (2, 1));
        assert!(recorder.latency.min() >= 9_990 && recorder.latency.max() <= 11_010);
    }

    #[tokio::test(start_paused = true)]
    async fn throughput_counts_responses_in_the_measured_part_to_requests_of_the_warmup() {
        let begin = Instant::now() + 5 * MS;
        let mut recorder = Recorder::new(SECOND, Some((begin, begin + 10 * MS)), None);
        for millis in [4, 5, 15, 16] {
            let ended = Instant::now() + millis * MS;
            recorder.record(&arrival(false), ok(), ended);
        }
        let counts = (recorder.warmup.ok, recorder.measured.ok, recorder.ok_in_window);
        assert_eq!(counts, (4, 0, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn repeated_id_is_a_wrong_response_to_get_only() {
        let id = Uuid::new_v4();
        for (recent_ids, wrong) in [(None, 0), (Some(RecentIds::new()), 1)] {
            let mut recorder = Recorder::new(SECOND, None, recent_ids);
            for _ in 0..2 {
                recorder.record(&arrival(true), Exchange::ok(id), Instant::now());
            }
            assert_eq!(recorder.measured.wrong_total(), wrong);
        }
    }
}
