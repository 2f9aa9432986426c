//! The deadline of a connection's current request.
//!
//! Arming and disarming a timer for each request would cost more than writing it. Deadlines of one connection only
//! ever grow, so one timer serves: when it fires for an older request it is moved to the deadline of the current one,
//! which is never too late and happens once per timeout, not once per request.

use std::{future::Future, pin::Pin};
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is moved only when it fires.
#[derive(Debug)]
pub(crate) struct Watchdog {
    timer: Pin<Box<Sleep>>,
}

// === impl Watchdog ===

impl Watchdog {
    /// It must be created with a deadline no later than that of the first request.
    pub(crate) fn new(first: Instant) -> Self {
        Self {
            timer: Box::pin(sleep_until(first)),
        }
    }

    /// What the work gives, or `None` if it has not ended by the deadline.
    pub(crate) async fn guard<T>(&mut self, deadline: Instant, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            // The work first: an answer that is there counts, and most of the time the timer need not be looked at.
            biased;
            done = work => Some(done),
            () = self.reach(deadline) => None,
        }
    }

    async fn reach(&mut self, deadline: Instant) {
        loop {
            self.timer.as_mut().await;
            if Instant::now() >= deadline {
                return;
            }
            self.timer.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::sleep;

    #[tokio::test(start_paused = true)]
    async fn each_request_has_its_own_deadline() {
        let second = Duration::from_secs(1);
        let begin = Instant::now();
        let mut watchdog = Watchdog::new(begin + second);
        assert_eq!(watchdog.guard(begin + second, sleep(second / 2)).await, Some(()));
        // Begun at 0.5 s, due at 1.5 s: it outlives the first deadline.
        assert_eq!(
            watchdog.guard(Instant::now() + second, sleep(second * 9 / 10)).await,
            Some(())
        );
        let begun = Instant::now();
        assert_eq!(watchdog.guard(begun + second, std::future::pending::<()>()).await, None);
        assert_eq!(begun.elapsed(), second);
    }
}
