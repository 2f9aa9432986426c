//! A rate limit for log lines about records: one line a second, whatever the rate of bad records.

use std::time::Duration;

use tokio::time::Instant;

const INTERVAL: Duration = Duration::from_secs(1);

/// Allows one log line per second and counts the suppressed ones.
#[derive(Debug, Default)]
pub struct LogLimiter {
    last: Option<Instant>,
    suppressed: u64,
}

// === impl LogLimiter ===

impl LogLimiter {
    /// `Some` if a line may be logged now, with the number of lines suppressed since the last one.
    pub fn allow(&mut self) -> Option<u64> {
        let now = Instant::now();
        if self.last.is_some_and(|last| now - last < INTERVAL) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_per_interval_with_the_number_of_suppressed_lines() {
        let mut log_limiter = LogLimiter::default();
        assert_eq!(log_limiter.allow(), Some(0));
        for _ in 0..5 {
            assert_eq!(log_limiter.allow(), None);
        }
        tokio::time::advance(INTERVAL).await;
        assert_eq!(log_limiter.allow(), Some(5));
        tokio::time::advance(INTERVAL).await;
        assert_eq!(log_limiter.allow(), Some(0));
    }
}
