//! When a request that no caller waits for is tried again.

use std::time::Duration;

/// Attempts before a request goes to the dead letters.
pub(crate) const ATTEMPTS: u32 = 3;

/// The longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// The pause after the attempt with this number; the first is 1.
pub(crate) fn pause(attempt: u32) -> Duration {
    match attempt {
        0 | 1 => Duration::from_secs(1),
        2 => Duration::from_secs(10),
        _ => Duration::from_secs(10)
            .saturating_mul(1 << (attempt - 2).min(8))
            .min(MAX_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_grows_up_to_a_minute() {
        let pauses = [1, 2, 3, 4, 5, u32::MAX].map(|attempt| pause(attempt).as_secs());
        assert_eq!(pauses, [1, 10, 20, 40, 60, 60]);
    }
}
