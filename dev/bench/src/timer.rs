//! A timer with a resolution of microseconds.
//!
//! tokio rounds its timers up to the next millisecond, which is several times the latency of a request. On Linux the open
//! loop therefore waits on a timer descriptor. On other systems the latency contains the rounding.

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

/// For one waiting task at a time.
#[derive(Debug, Default)]
pub(crate) struct PreciseTimer {
    /// Without it, tokio's timer: on other systems, and in tests with a paused clock.
    #[cfg(target_os = "linux")]
    descriptor: Option<AsyncFd<OwnedFd>>,
}

// === impl PreciseTimer ===

impl PreciseTimer {
    #[cfg(target_os = "linux")]
    #[expect(
        deprecated,
        reason = "its successor is unsafe for the sake of types whose descriptor changes; an OwnedFd's does not"
    )]
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let descriptor = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self {
            descriptor: Some(AsyncFd::new(descriptor)?),
        })
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self::default())
    }

    /// Returns at once if the instant has passed.
    pub(crate) async fn wait_until(&self, instant: Instant) {
        #[cfg(target_os = "linux")]
        if let Some(descriptor) = &self.descriptor
            && wait(descriptor, instant).await.is_ok()
        {
            return;
        }
        // Also after an error of the descriptor: late is better than early.
        sleep_until(instant).await;
    }
}

#[cfg(target_os = "linux")]
async fn wait(descriptor: &AsyncFd<OwnedFd>, instant: Instant) -> io::Result<()> {
    loop {
        let left = instant.saturating_duration_since(Instant::now());
        // Zero would disarm the timer.
        if left.is_zero() {
            return Ok(());
        }
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec::try_from(left).map_err(io::Error::other)?,
        };
        timerfd_settime(descriptor.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        // The next arming clears the expiration count, so it need not be read.
        descriptor.readable().await?.clear_ready();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn timer_never_fires_early() {
        let timer = PreciseTimer::new().unwrap();
        for micros in [0, 1, 50, 300, 1_700] {
            let due = Instant::now() + Duration::from_micros(micros);
            timer.wait_until(due).await;
            assert!(Instant::now() >= due, "{micros}");
        }
    }
}
