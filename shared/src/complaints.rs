//! Complaints about records: a few lines, however many bad records there are.

use std::time::Duration;

use tokio::time::Instant;

/// One line per this time.
const INTERVAL: Duration = Duration::from_secs(1);

/// Lets one complaint through at a time and counts the rest.
#[derive(Debug, Default)]
pub struct Complaints {
    last: Option<Instant>,
    suppressed: u64,
}

// === impl Complaints ===

impl Complaints {
    /// Whether to complain now; if so, how many complaints were held back since the last one.
    pub fn raise(&mut self) -> Option<u64> {
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
        let mut complaints = Complaints::default();
        assert_eq!(complaints.raise(), Some(0));
        for _ in 0..5 {
            assert_eq!(complaints.raise(), None);
        }
        tokio::time::advance(INTERVAL).await;
        assert_eq!(complaints.raise(), Some(5));
        tokio::time::advance(INTERVAL).await;
        assert_eq!(complaints.raise(), Some(0));
    }
}
