//! Waking up on time.
//!
//! tokio's timers are rounded up to the next millisecond, which is several times the latency to be measured, and the
//! open loop measures from the instant it meant to send at. So on Linux it sleeps on a timer descriptor, which fires
//! within microseconds and costs nothing while it waits; elsewhere, the rounding is in the latency.

use std::io;
use tokio::time::{Instant, sleep_until};

#[cfg(target_os = "linux")]
use {
    rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    },
    std::os::fd::OwnedFd,
    tokio::io::unix::AsyncFd,
};

/// A timer for one waiter at a time.
#[derive(Debug)]
pub(crate) struct Alarm {
    #[cfg(target_os = "linux")]
    timer: Option<AsyncFd<OwnedFd>>,
}

// === impl Alarm ===

impl Alarm {
    /// Precise to microseconds where the system allows it.
    #[cfg(target_os = "linux")]
    #[expect(
        deprecated,
        reason = "its successor is unsafe for the sake of types whose descriptor changes; an OwnedFd's does not"
    )]
    pub(crate) fn precise() -> io::Result<Self> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        Ok(Self {
            timer: Some(AsyncFd::new(timer)?),
        })
    }

    /// Precise to microseconds where the system allows it.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn precise() -> io::Result<Self> {
        Ok(Self::coarse())
    }

    /// Rounded up to milliseconds, and the only one that follows the paused clock of a test.
    #[cfg(any(test, not(target_os = "linux")))]
    pub(crate) fn coarse() -> Self {
        Self {
            #[cfg(target_os = "linux")]
            timer: None,
        }
    }

    /// Waits until this instant, and not at all if it has passed.
    pub(crate) async fn reach(&self, instant: Instant) {
        #[cfg(target_os = "linux")]
        if let Some(timer) = &self.timer
            && wait(timer, instant).await.is_ok()
        {
            return;
        }
        // Also after a failed wait, which the kernel does not document for a valid descriptor: late is better than early.
        sleep_until(instant).await;
    }
}

#[cfg(target_os = "linux")]
async fn wait(timer: &AsyncFd<OwnedFd>, instant: Instant) -> io::Result<()> {
    loop {
        let left = instant.saturating_duration_since(Instant::now());
        // Zero would not fire at once but disarm the timer.
        if left.is_zero() {
            return Ok(());
        }
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let it_value = Timespec::try_from(left).map_err(io::Error::other)?;
        timerfd_settime(
            timer.get_ref(),
            TimerfdTimerFlags::empty(),
            &Itimerspec {
                it_interval: zero,
                it_value,
            },
        )?;
        // Arming it anew also forgets that it fired, so there is nothing to read from it.
        timer.readable().await?.clear_ready();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn it_never_wakes_early() {
        let alarm = Alarm::precise().unwrap();
        for micros in [0, 1, 50, 300, 1_700] {
            let due = Instant::now() + Duration::from_micros(micros);
            alarm.reach(due).await;
            assert!(Instant::now() >= due, "{micros}");
        }
    }
}
