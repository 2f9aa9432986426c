//! The result of a run: settings, counts and latencies, as text and as JSON.

use crate::{
    client::Run,
    load::{Connections, Load, Mode, RequestKind, Until},
    outcome::OutcomeCounts,
};
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};
use std::{fmt, time::Duration};
use tokio::time::Instant;

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// The result of a [`Load`].
#[derive(Debug, Clone)]
pub struct Report {
    /// The settings.
    pub load: Load,
    /// The part that the names and values of this run's requests have in common.
    pub run_id: String,
    /// Of measured requests.
    pub outcomes: OutcomeCounts,
    /// Of requests of the warm-up.
    pub warmup: OutcomeCounts,
    /// Of right responses to measured requests, in microseconds, with three digits of precision.
    pub latency: Histogram<u64>,
    /// When the measured part began, or would have begun if the run was interrupted before.
    pub began: Instant,
    /// Length of the measured part: as set, or until the interruption, or until the last right response of
    /// [`Until::Requests`].
    pub elapsed: Duration,
    /// Right responses within `elapsed`, also to requests of the warm-up. More may have come after it.
    pub ok_in_time: u64,
    /// From the beginning of the run.
    pub connections_opened: u64,
    /// The first different wrong responses.
    pub first_wrong: Vec<String>,
    /// The first different connection errors.
    pub first_errors: Vec<String>,
    /// Whether the run was stopped before its end. Requests in flight at that moment are in no count.
    pub interrupted: bool,
}

// === impl Report ===

impl Report {
    pub(crate) fn new(run: &Run, interrupted: Option<Instant>) -> Self {
        let recorder = &mut *run.recorder.lock();
        let began = run.pacer.measured_from;
        let end = interrupted.or(match run.load.until {
            Until::Elapsed(_) => run.pacer.end(),
            Until::Requests(_) => recorder.last_ok,
        });
        // An interruption after the end, while the last responses are awaited, does not move the end.
        let end = end.map(|end| run.pacer.end().map_or(end, |planned| end.min(planned)));
        Self {
            load: run.load.clone(),
            run_id: run.id.clone(),
            outcomes: std::mem::take(&mut recorder.measured),
            warmup: std::mem::take(&mut recorder.warmup),
            latency: recorder.latency.clone(),
            began,
            elapsed: end.map_or(Duration::ZERO, |end| end.saturating_duration_since(began)),
            ok_in_time: recorder.ok_in_window,
            connections_opened: recorder.connections_opened,
            first_wrong: std::mem::take(&mut recorder.first_wrong),
            first_errors: std::mem::take(&mut recorder.first_errors),
            interrupted: interrupted.is_some(),
        }
    }

    /// Right responses per second, over the measured part.
    pub fn throughput(&self) -> f64 {
        if self.elapsed.is_zero() {
            0.0
        } else {
            self.ok_in_time as f64 / self.elapsed.as_secs_f64()
        }
    }

    /// The latency at this quantile (0 to 1) of the right responses; zero if there are none.
    pub fn latency_at(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.latency.value_at_quantile(quantile))
    }

    /// Wrong responses, those of the warm-up included.
    pub fn wrong_total(&self) -> u64 {
        self.outcomes.wrong_total() + self.warmup.wrong_total()
    }

    /// One object; the names contain the units.
    pub fn to_json(&self) -> Value {
        let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
        let mut latency: Map<_, _> = QUANTILES
            .iter()
            .map(|(name, quantile)| ((*name).to_owned(), self.latency.value_at_quantile(*quantile).into()))
            .collect();
        latency.insert("count".to_owned(), self.latency.len().into());
        latency.insert("mean".to_owned(), self.latency.mean().into());
        latency.insert("max".to_owned(), self.latency.max().into());
        let (mode, rate) = match self.load.mode {
            Mode::Closed { .. } => ("closed", None),
            Mode::Open { rate, .. } => ("open", Some(rate)),
        };
        json!({
            "settings": {
                "target": self.load.target.to_string(),
                "mode": mode,
                "rate_per_second": rate,
                "connections": self.load.mode.max_connections(),
                "request": request_text(self.load.request),
                "warmup_ms": millis(self.load.warmup),
                "timeout_ms": millis(self.load.timeout),
            },
            "run": self.run_id,
            "interrupted": self.interrupted,
            "elapsed_ms": millis(self.elapsed),
            "throughput_per_second": self.throughput(),
            "ok_in_time": self.ok_in_time,
            "latency_us": latency,
            "outcomes": self.outcomes,
            "warmup": self.warmup,
            "connections_opened": self.connections_opened,
            "first_wrong": self.first_wrong,
            "first_errors": self.first_errors,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (request, mode) = (request_text(self.load.request), mode_text(self.load.mode));
        writeln!(f, "{request} to {}, {mode}", self.load.target)?;
        writeln!(
            f,
            "{:.1} s measured after {:.1} s of warm-up{}\n",
            self.elapsed.as_secs_f64(),
            self.load.warmup.as_secs_f64(),
            if self.interrupted { ", interrupted" } else { "" }
        )?;
        writeln!(f, "throughput   {:.0} responses/s", self.throughput())?;
        write!(f, "latency     ")?;
        for (name, quantile) in QUANTILES {
            write!(f, " {name} {:.3} ", self.latency_at(quantile).as_secs_f64() * 1e3)?;
        }
        writeln!(f, " max {:.3} ms", self.latency_at(1.0).as_secs_f64() * 1e3)?;
        writeln!(f, "outcomes     {}", self.outcomes)?;
        if self.warmup.total() > 0 {
            writeln!(f, "warm-up      {}", self.warmup)?;
        }
        writeln!(f, "connections  {} opened", self.connections_opened)?;
        for sample in &self.first_wrong {
            writeln!(f, "WRONG        {sample}")?;
        }
        for sample in &self.first_errors {
            writeln!(f, "error        {sample}")?;
        }
        Ok(())
    }
}

fn request_text(request: RequestKind) -> String {
    match request {
        RequestKind::Get => "GET".to_owned(),
        RequestKind::Post { body_bytes } => {
            let bytes = body_bytes.unwrap_or(RequestKind::MIN_BODY_BYTES);
            format!("POST of {bytes} bytes")
        }
        RequestKind::Route { body_bytes } => format!("POST of {body_bytes} bytes to a route"),
    }
}

fn mode_text(mode: Mode) -> String {
    match mode {
        Mode::Closed { connections } => format!("closed loop, {connections} connections"),
        Mode::Open { rate, connections } => {
            let connections = match connections {
                Connections::Fixed(n) => format!("{n} connections"),
                Connections::UpTo(n) => format!("at most {n} connections"),
            };
            format!("open loop, {rate} requests/s over {connections}")
        }
    }
}

// === impl OutcomeCounts ===

impl fmt::Display for OutcomeCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ok, {} wrong", self.ok, self.wrong_total())?;
        for (status, count) in &self.statuses {
            write!(f, ", {count} with status {status}")?;
        }
        for (name, count) in [
            ("connection errors", self.connection_errors),
            ("timeouts", self.timeouts),
            ("unsent", self.unsent),
        ] {
            if count > 0 {
                write!(f, ", {count} {name}")?;
            }
        }
        Ok(())
    }
}
