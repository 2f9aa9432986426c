//! Exponential backoff with jitter, for attempts to connect.

use std::time::Duration;

/// The first pause, which is what a connection costs that the broker closed because it was idle.
pub(crate) const INITIAL: Duration = Duration::from_millis(5);

/// The longest pause, and so the longest delay of the recovery after an outage.
pub(crate) const MAX: Duration = Duration::from_millis(200);

/// Counts consecutive failures.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Waits before the next attempt: 5 ms, 10 ms, … 200 ms. Each is shortened by up to a half at random, so that the
    /// clients of a broker do not reconnect at the same time.
    pub async fn pause(&mut self) {
        let full = INITIAL.saturating_mul(1 << self.failures.min(8)).min(MAX);
        self.failures = self.failures.saturating_add(1);
        tokio::time::sleep(full.mul_f64(1.0 - fastrand::f64() / 2.0)).await;
    }

    /// As [`Backoff::pause`], but without a pause after the first failure: most second attempts succeed.
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

    /// Records a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}
