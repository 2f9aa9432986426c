//! The verdict on a scenario: its figures, and those that miss a criterion.

use std::{fmt::Write, time::Duration};

#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Figures that meet a criterion.
    met: Vec<String>,
    notes: Vec<String>,
    failures: Vec<String>,
    logs: String,
}

// === impl Verdict ===

impl Verdict {
    /// The verdict on a scenario that did not end.
    pub(crate) fn broken(why: String) -> Self {
        Self {
            failures: vec![why],
            ..Self::default()
        }
    }

    /// Adds a figure without a criterion.
    pub(crate) fn note(&mut self, figure: impl Into<String>) {
        self.notes.push(figure.into());
    }

    /// Adds a figure that has to meet the criterion of the scenario.
    pub(crate) fn judge(&mut self, holds: bool, figure: impl Into<String>) {
        if holds {
            self.met.push(figure.into());
        } else {
            self.failures.push(figure.into());
        }
    }

    /// Adds an invariant of all scenarios. It is reported only when it is broken.
    pub(crate) fn invariant(&mut self, holds: bool, figure: impl Into<String>) {
        if !holds {
            self.failures.push(figure.into());
        }
    }

    /// Adds the log of a process, which is kept if the scenario fails.
    pub(crate) fn log(&mut self, name: &str, lines: &[String]) {
        // Writing to a string does not fail.
        let _ = writeln!(self.logs, "--- {name}\n{}", lines.join("\n"));
    }

    pub(crate) fn passed(&self) -> bool {
        self.failures.is_empty()
    }

    /// All figures, the most important ones first: missed criteria, met criteria, notes.
    pub(crate) fn figures(&self) -> impl Iterator<Item = String> {
        let missed = self.failures.iter().map(|figure| format!("MISSED: {figure}"));
        missed.chain(self.met.iter().chain(&self.notes).cloned())
    }

    pub(crate) fn logs(&self) -> &str {
        &self.logs
    }
}

/// A duration for the table.
pub(crate) fn ms(time: Duration) -> String {
    match time.as_millis() {
        0 => format!("{} µs", time.as_micros()),
        1..1_000 => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

/// Bytes for the table.
pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
