//! A rate limit for log lines about records: a few lines, however many bad records there are.

use std::time::Duration;

use tokio::time::Instant;

/// One line per this time.
const INTERVAL: Duration = Duration::from_secs(1);

/// Lets one complaint through at a time and counts the rest.
#[derive(Debug, Default)]
pub struct LogLimiter {
    last: Option<Instant>,
    suppressed: u64,
}

// === impl LogLimiter ===

impl LogLimiter {
    /// Whether to complain now; if so, how many log limiter were held back since the last one.
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
    async fn one_line_per_interval_says_how_many_were_held_back() {
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
