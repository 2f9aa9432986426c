//! Bounded waits for conditions.

use std::{fmt::Debug, future::Future, time::Duration};

use tokio::time::{Instant, sleep, timeout};

/// The bound on a wait. It is long, because the machine may be busy: it decides only how long a failure takes.
pub const WAIT_LIMIT: Duration = Duration::from_secs(40);

/// The interval between two checks of a condition.
const INTERVAL: Duration = Duration::from_millis(20);

/// Checks until the condition has a value.
///
/// # Panics
/// When it has none after `limit`.
pub async fn until<T>(what: &str, limit: Duration, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        sleep(INTERVAL).await;
    }
}

/// Checks until the value is the expected one.
///
/// # Panics
/// When it is another one after `limit`; the message has it.
pub async fn until_eq<T: PartialEq + Debug>(
    what: &str,
    limit: Duration,
    expected: T,
    mut check: impl AsyncFnMut() -> T,
) {
    let deadline = Instant::now() + limit;
    loop {
        let seen = check().await;
        if seen == expected {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "not within {limit:?}: {what}: {seen:?} instead of {expected:?}"
        );
        sleep(INTERVAL).await;
    }
}

/// Awaits a future.
///
/// # Panics
/// When it is not ready within `limit`.
pub async fn within<T>(what: &str, limit: Duration, future: impl Future<Output = T>) -> T {
    match timeout(limit, future).await {
        Ok(ended) => ended,
        Err(_elapsed) => panic!("not within {limit:?}: {what}"),
    }
}
