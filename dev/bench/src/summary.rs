//! The report for a person.

use crate::{
    load::{Connections, Load, Mode, Question},
    outcomes::Outcomes,
    report::Report,
};
use std::fmt;

/// What is shown of the latency.
pub(crate) const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

// === impl Report ===

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", Settings(&self.load))?;
        write!(
            f,
            "{:.1} s measured after {:.1} s of warm-up",
            self.elapsed.as_secs_f64(),
            self.load.warmup.as_secs_f64()
        )?;
        writeln!(f, "{}", if self.interrupted { ", interrupted" } else { "" })?;
        writeln!(f)?;
        writeln!(f, "throughput   {:.0} answers/s", self.throughput())?;
        write!(f, "latency     ")?;
        for (name, quantile) in QUANTILES {
            write!(f, " {name} {:.3} ", self.latency_at(quantile).as_secs_f64() * 1e3)?;
        }
        writeln!(f, " max {:.3} ms", self.latency_at(1.0).as_secs_f64() * 1e3)?;
        writeln!(f, "outcomes     {}", Counts(&self.outcomes))?;
        if self.warmup.total() > 0 {
            writeln!(f, "warm-up      {}", Counts(&self.warmup))?;
        }
        writeln!(
            f,
            "connections  {} opened, {} retries",
            self.connections_opened, self.retries
        )?;
        for sample in &self.first_wrong {
            writeln!(f, "WRONG ANSWER {sample}")?;
        }
        for sample in &self.first_errors {
            writeln!(f, "error        {sample}")?;
        }
        Ok(())
    }
}

struct Settings<'a>(&'a Load);

impl fmt::Display for Settings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.question {
            Question::Get => write!(f, "GET")?,
            Question::Post { body_bytes } => {
                write!(f, "POST of {} bytes", body_bytes.unwrap_or(Question::MIN_BODY_BYTES))?;
            }
        }
        let targets: Vec<_> = self.0.targets.iter().map(ToString::to_string).collect();
        write!(f, " to {}, ", targets.join(" and "))?;
        match self.0.mode {
            Mode::Closed { connections } => write!(f, "closed loop, {connections} connections"),
            Mode::Open { rate, connections } => {
                write!(f, "open loop, {rate} requests/s over ")?;
                match connections {
                    Connections::Fixed(n) => write!(f, "{n} connections"),
                    Connections::UpTo(n) => write!(f, "at most {n} connections"),
                }
            }
        }
    }
}

struct Counts<'a>(&'a Outcomes);

impl fmt::Display for Counts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.0;
        write!(f, "{} ok, {} wrong", counts.ok, counts.wrong_total())?;
        for (status, count) in &counts.statuses {
            write!(f, ", {count} with status {status}")?;
        }
        for (name, count) in [
            ("connection errors", counts.connection_errors),
            ("timeouts", counts.timeouts),
            ("unsent", counts.unsent),
        ] {
            if count > 0 {
                write!(f, ", {count} {name}")?;
            }
        }
        Ok(())
    }
}
