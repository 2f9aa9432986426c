//! What a scenario has seen, and whether that is good enough.

use std::{fmt::Write, time::Duration};

/// Figures, and those of them that miss a criterion.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    figures: Vec<String>,
    failures: Vec<String>,
    logs: String,
}

// === impl Verdict ===

impl Verdict {
    /// One that says only why the scenario came to no end.
    pub(crate) fn broken(why: String) -> Self {
        Self {
            failures: vec![why],
            ..Self::default()
        }
    }

    /// A figure that nothing depends on.
    pub(crate) fn note(&mut self, figure: impl Into<String>) {
        self.figures.push(figure.into());
    }

    /// A figure that has to meet the scenario's criterion.
    pub(crate) fn judge(&mut self, holds: bool, figure: impl Into<String>) {
        if holds {
            self.figures.push(figure.into());
        } else {
            self.failures.push(figure.into());
        }
    }

    /// What holds in every scenario is worth a word only where it does not.
    pub(crate) fn invariant(&mut self, holds: bool, figure: impl Into<String>) {
        if !holds {
            self.failures.push(figure.into());
        }
    }

    /// The log of a process, to be kept if the scenario fails.
    pub(crate) fn log(&mut self, name: &str, lines: &[String]) {
        // Writing to a string does not fail.
        let _ = writeln!(self.logs, "--- {name}\n{}", lines.join("\n"));
    }

    pub(crate) fn passed(&self) -> bool {
        self.failures.is_empty()
    }

    pub(crate) fn figures(&self) -> String {
        self.figures.join("; ")
    }

    pub(crate) fn failures(&self) -> String {
        self.failures.join("; ")
    }

    pub(crate) fn logs(&self) -> &str {
        &self.logs
    }
}

/// A time as the table has it.
pub(crate) fn ms(time: Duration) -> String {
    match time.as_millis() {
        0 => format!("{} µs", time.as_micros()),
        1..1_000 => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

/// Bytes as the table has them.
pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
