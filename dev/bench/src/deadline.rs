//! The deadline of a connection's current request.
//!
//! To register and cancel a timer for each request would cost more than to write the request. The deadlines of one
//! connection only grow, so one timer serves: when it fires for an older request it moves to the current deadline.

use std::{future::Future, pin::Pin};
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that moves only when it fires.
#[derive(Debug)]
pub(crate) struct DeadlineTimer(Pin<Box<Sleep>>);

// === impl DeadlineTimer ===

impl DeadlineTimer {
    /// `first` must not be later than the deadline of the first request.
    pub(crate) fn new(first: Instant) -> Self {
        Self(Box::pin(sleep_until(first)))
    }

    /// The output of `future`, or `None` after the deadline.
    pub(crate) async fn timeout_at<T>(&mut self, deadline: Instant, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            // A response that has arrived counts, and most of the time the timer is not polled.
            biased;
            output = future => Some(output),
            () = self.wait_until(deadline) => None,
        }
    }

    async fn wait_until(&mut self, deadline: Instant) {
        loop {
            self.0.as_mut().await;
            if Instant::now() >= deadline {
                return;
            }
            self.0.as_mut().reset(deadline);
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
        let mut timer = DeadlineTimer::new(begin + second);
        assert_eq!(timer.timeout_at(begin + second, sleep(second / 2)).await, Some(()));
        // From 0.5 s to 1.4 s, with a deadline at 1.5 s: the first deadline must not end it.
        let deadline = Instant::now() + second;
        assert_eq!(timer.timeout_at(deadline, sleep(second * 9 / 10)).await, Some(()));
        let deadline = Instant::now() + second;
        assert_eq!(timer.timeout_at(deadline, std::future::pending::<()>()).await, None);
        assert_eq!(Instant::now(), deadline);
    }
}
