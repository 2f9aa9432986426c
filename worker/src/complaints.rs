//! Complaints about records: a few lines, however many bad records there are and whatever is in them.

use std::{fmt, time::Duration};

use tokio::time::Instant;

/// One line per this time.
const INTERVAL: Duration = Duration::from_secs(1);

/// So much of a value is shown, in bytes.
const SHOWN_BYTES: usize = 120;

/// Lets one complaint through at a time and counts the rest.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    last: Option<Instant>,
    suppressed: u64,
}

/// A value for a log: escaped, and cut to a line's length.
#[derive(Debug)]
pub(crate) struct Excerpt<'a>(pub(crate) &'a [u8]);

// === impl Complaints ===

impl Complaints {
    /// Whether to complain now; if so, how many complaints were held back since the last one.
    pub(crate) fn next(&mut self) -> Option<u64> {
        let now = Instant::now();
        if self.last.is_some_and(|last| now - last < INTERVAL) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

// === impl Excerpt ===

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.get(..SHOWN_BYTES).unwrap_or(self.0);
        write!(f, "{}", shown.escape_ascii())?;
        if shown.len() < self.0.len() {
            write!(f, "… ({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_per_interval_says_how_many_were_held_back() {
        let mut complaints = Complaints::default();
        assert_eq!(complaints.next(), Some(0));
        for _ in 0..5 {
            assert_eq!(complaints.next(), None);
        }
        tokio::time::advance(INTERVAL).await;
        assert_eq!(complaints.next(), Some(5));
        tokio::time::advance(INTERVAL).await;
        assert_eq!(complaints.next(), Some(0));
    }

    #[test]
    fn a_value_is_shown_escaped_and_cut() {
        assert_eq!(Excerpt(b"a\n\x1b[31m").to_string(), r"a\n\x1b[31m");
        let long = Excerpt(&[b'x'; 1000]).to_string();
        assert!(long.ends_with("… (1000 bytes)") && long.len() < 200, "{long}");
    }
}
