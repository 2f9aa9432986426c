//! The pause between two attempts at the same thing: doubling, jittered, and never long.

use std::time::Duration;

/// The first pause. A broker that closed an idle connection costs one of these.
pub(crate) const INITIAL: Duration = Duration::from_millis(5);

/// The longest pause: recovery after an outage starts this late at most.
pub(crate) const MAX: Duration = Duration::from_millis(200);

/// Counts failures in a row.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Waits before the next attempt: 5 ms, 10 ms, … 200 ms, each up to a half shorter at random so that many
    /// clients of one broker do not come back in step.
    pub async fn pause(&mut self) {
        let full = INITIAL.saturating_mul(1 << self.failures.min(8)).min(MAX);
        self.failures = self.failures.saturating_add(1);
        tokio::time::sleep(full.mul_f64(1.0 - fastrand::f64() / 2.0)).await;
    }

    /// As [`Backoff::pause`], but the first failure in a row is not waited for: most are over at the next attempt.
    pub(crate) async fn pause_unless_first(&mut self) {
        if self.has_failed() {
            self.pause().await;
        } else {
            self.failures = 1;
        }
    }

    /// Whether the last attempt failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// The attempt succeeded.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}
