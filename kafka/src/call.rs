//! A call of the Kafka client, fenced: it ends in time, and a panic inside the client comes back as an error.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;

use super::error::{Error, Panicked};

/// Bounds a call of the client and turns its panic into an error.
pub(crate) async fn with_timeout<T, E>(
    limit: Duration,
    call: impl Future<Output = Result<T, E>>,
    sort: impl FnOnce(E) -> Error,
) -> Result<T, Error> {
    // Boxed, because the client's futures are deep and large, and would be a part of every future above them.
    // Unwind safe: after a panic the client object is dropped, never used again.
    let call = Box::pin(AssertUnwindSafe(call).catch_unwind());
    match tokio::time::timeout(limit, call).await {
        Err(_elapsed) => Err(Error::TimedOut(limit)),
        Ok(Err(_panic)) => Err(Panicked.into()),
        Ok(Ok(result)) => result.map_err(sort),
    }
}
