//! The report for a machine. Durations are in milliseconds, latencies in microseconds; the names say so.

use crate::{
    load::{Connections, Load, Mode, Question, Until},
    outcomes::Outcomes,
    report::Report,
    summary::QUANTILES,
};
use serde_json::{Map, Value, json};

// === impl Report ===

impl Report {
    /// The report as one JSON object: `settings`, `outcomes`, `warmup`, `latency_us` and the rest by the names of the
    /// fields.
    pub fn to_json(&self) -> Value {
        json!({
            "settings": settings(&self.load),
            "run": self.run,
            "interrupted": self.interrupted,
            "elapsed_ms": millis(self.elapsed),
            "throughput_per_second": self.throughput(),
            "ok_in_time": self.ok_in_time,
            "latency_us": self.latency_json(),
            "outcomes": outcomes(&self.outcomes),
            "warmup": outcomes(&self.warmup),
            "connections_opened": self.connections_opened,
            "retries": self.retries,
            "first_wrong": self.first_wrong,
            "first_errors": self.first_errors,
        })
    }

    fn latency_json(&self) -> Value {
        let mut latency = Map::new();
        latency.insert("count".to_owned(), self.latency.len().into());
        latency.insert("min".to_owned(), self.latency.min().into());
        latency.insert("mean".to_owned(), self.latency.mean().into());
        for (name, quantile) in QUANTILES {
            latency.insert(name.to_owned(), self.latency.value_at_quantile(quantile).into());
        }
        latency.insert("max".to_owned(), self.latency.max().into());
        latency.into()
    }
}

fn settings(load: &Load) -> Value {
    let (mode, rate, connections, on_demand) = match load.mode {
        Mode::Closed { connections } => ("closed", None, connections, false),
        Mode::Open {
            rate,
            connections: Connections::Fixed(n),
        } => ("open", Some(rate), n, false),
        Mode::Open {
            rate,
            connections: Connections::UpTo(n),
        } => ("open", Some(rate), n, true),
    };
    let (method, body_bytes) = match load.question {
        Question::Get => ("GET", 0),
        Question::Post { body_bytes } => ("POST", body_bytes.unwrap_or(Question::MIN_BODY_BYTES)),
    };
    let (duration_ms, requests) = match load.until {
        Until::Elapsed(duration) => (Some(millis(duration)), None),
        Until::Requests(requests) => (None, Some(requests)),
    };
    json!({
        "targets": load.targets.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "mode": mode,
        "rate_per_second": rate,
        "connections": connections,
        "connections_on_demand": on_demand,
        "method": method,
        "body_bytes": body_bytes,
        "duration_ms": duration_ms,
        "requests": requests,
        "warmup_ms": millis(load.warmup),
        "timeout_ms": millis(load.timeout),
        "retry": load.retry,
    })
}

fn outcomes(counts: &Outcomes) -> Value {
    let wrong: Map<_, _> = counts
        .wrong
        .iter()
        .map(|(wrong, n)| (wrong.as_str().to_owned(), (*n).into()))
        .collect();
    let statuses: Map<_, _> = counts
        .statuses
        .iter()
        .map(|(status, n)| (status.to_string(), (*n).into()))
        .collect();
    json!({
        "total": counts.total(),
        "ok": counts.ok,
        "wrong_total": counts.wrong_total(),
        "wrong": wrong,
        "statuses": statuses,
        "connection_errors": counts.connection_errors,
        "timeouts": counts.timeouts,
        "unsent": counts.unsent,
    })
}

fn millis(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
