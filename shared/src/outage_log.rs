//! Decides when an outage is logged: as it begins, once a minute while it lasts, and when it ends.
//!
//! - A component that retries many times a second reports every failure here, and logs what this allows.
//! - Another cause of the same outage is logged as well: a broker that restarts first closes the connection, and then
//!   presents an expired certificate.
//! - A failure soon after the end belongs to the same outage. A broker that accepts connections and fails every batch would
//!   otherwise fill the log with ends and beginnings.

use std::time::Duration;

use tokio::time::Instant;

/// Between two lines about the same cause.
const REMINDER: Duration = Duration::from_secs(60);

/// Causes that are logged between two reminders.
const MAX_CAUSES: usize = 4;

/// An outage is over when nothing has failed for so long.
const SETTLED: Duration = Duration::from_secs(10);

/// A relapse is logged when it lasts as long.
const RELAPSE: Duration = Duration::from_secs(5);

/// The outage of one component.
#[derive(Debug, Default)]
pub struct OutageLog {
    outage: Option<Outage>,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    /// Of the failures without a success between them.
    failing_since: Instant,
    /// The first success after the last failure.
    ended_at: Option<Instant>,
    logged_at: Option<Instant>,
    /// Those logged since the last reminder.
    causes: Vec<String>,
    /// The last line in the log is about a failure.
    is_open_in_log: bool,
}

// === impl OutageLog ===

impl OutageLog {
    /// Reports a failure. `Some` if it is to be logged now, with the age of the outage in whole seconds.
    pub fn on_failure(&mut self, cause: &str) -> Option<Duration> {
        let now = Instant::now();
        let is_over = |outage: &Outage| outage.ended_at.is_some_and(|ended_at| now - ended_at >= SETTLED);
        self.outage.take_if(|outage| is_over(outage));
        let outage = self.outage.get_or_insert_with(|| Outage::new(now));
        if outage.ended_at.take().is_some() {
            outage.failing_since = now;
        }
        let is_known = outage.causes.len() >= MAX_CAUSES || outage.causes.iter().any(|known| known == cause);
        let is_reminder = outage.logged_at.is_some_and(|logged_at| now - logged_at >= REMINDER);
        let is_lasting = !outage.is_open_in_log && now - outage.failing_since >= RELAPSE;
        if is_known && !is_reminder && !is_lasting {
            return None;
        }
        if is_reminder {
            outage.causes.clear();
        }
        outage.causes.push(cause.to_owned());
        outage.logged_at = Some(now);
        outage.is_open_in_log = true;
        Some(seconds(now - outage.since))
    }

    /// Reports a success. `Some` if the end of an outage is to be logged now, with the age of the outage in whole seconds.
    pub fn on_success(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let outage = self.outage.as_mut()?;
        outage.ended_at.get_or_insert(now);
        std::mem::take(&mut outage.is_open_in_log).then(|| seconds(now - outage.since))
    }
}

fn seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}

// === impl Outage ===

impl Outage {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            failing_since: now,
            ended_at: None,
            logged_at: None,
            causes: Vec::new(),
            is_open_in_log: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Fails every 100 ms for so long, and gives the ages that were logged.
    async fn fail_for(log: &mut OutageLog, cause: &str, time: Duration) -> Vec<u64> {
        let begun = Instant::now();
        let mut logged = Vec::new();
        while begun.elapsed() < time {
            logged.extend(log.on_failure(cause).map(|age| age.as_secs()));
            advance(SECOND / 10).await;
        }
        logged
    }

    #[tokio::test(start_paused = true)]
    async fn outage_is_logged_at_its_begin_every_minute_and_at_its_end() {
        let mut log = OutageLog::default();
        assert_eq!(log.on_success(), None);
        assert_eq!(fail_for(&mut log, "refused", 150 * SECOND).await, [0, 60, 120]);
        assert_eq!(log.on_success(), Some(150 * SECOND));
        assert_eq!(log.on_success(), None);
        advance(SETTLED).await;
        assert_eq!(log.on_failure("refused"), Some(Duration::ZERO), "another outage");
    }

    #[tokio::test(start_paused = true)]
    async fn another_cause_is_logged_once() {
        let mut log = OutageLog::default();
        assert_eq!(fail_for(&mut log, "closed", SECOND).await, [0]);
        assert_eq!(fail_for(&mut log, "expired", SECOND).await, [1]);
        assert_eq!(fail_for(&mut log, "closed", SECOND).await, [0; 0]);
        // A cause that has another text each time fills no log.
        let mut logged = 0;
        for number in 0..100 {
            logged += fail_for(&mut log, &number.to_string(), SECOND / 10).await.len();
        }
        assert_eq!(logged, MAX_CAUSES - 2);
    }

    #[tokio::test(start_paused = true)]
    async fn relapses_are_one_outage() {
        let mut log = OutageLog::default();
        assert_eq!(log.on_failure("refused"), Some(Duration::ZERO));
        assert_eq!(log.on_success(), Some(Duration::ZERO));
        let mut lines = 0;
        for _ in 0..300 {
            advance(SECOND / 5).await;
            lines += usize::from(log.on_failure("refused").is_some());
            lines += usize::from(log.on_success().is_some());
        }
        assert_eq!(lines, 2, "the reminder after a minute, and the end after it");
        assert_eq!(
            fail_for(&mut log, "refused", 8 * SECOND).await,
            [65],
            "a relapse that lasts"
        );
        assert_eq!(log.on_success(), Some(68 * SECOND));
    }
}
