//! Waiting for a condition, with a bound.

use std::{fmt::Debug, future::Future, time::Duration};

use tokio::time::{Instant, sleep, timeout};

/// The bound on what should happen soon. It is generous, since the machine may be slow and busy: it decides how long
/// a failure takes, not whether there is one.
pub const SOON: Duration = Duration::from_secs(40);

/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until there is something.
///
/// # Panics
/// When there is nothing after `limit`.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        sleep(PAUSE).await;
    }
}

/// Looks until the value is the expected one.
///
/// # Panics
/// When it is another after `limit`; says which.
pub async fn until_eq<T: PartialEq + Debug>(
    what: &str,
    limit: Duration,
    expected: T,
    mut look: impl AsyncFnMut() -> T,
) {
    let deadline = Instant::now() + limit;
    loop {
        let seen = look().await;
        if seen == expected {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "not within {limit:?}: {what}: {seen:?} instead of {expected:?}"
        );
        sleep(PAUSE).await;
    }
}

/// Waits for an end.
///
/// # Panics
/// When it does not come within `limit`.
pub async fn within<T>(what: &str, limit: Duration, future: impl Future<Output = T>) -> T {
    match timeout(limit, future).await {
        Ok(ended) => ended,
        Err(_elapsed) => panic!("not within {limit:?}: {what}"),
    }
}
