//! Bounds the calls of rskafka in time, and turns a panic inside rskafka into an error.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;

use super::error::{Error, Panicked};

/// Runs a call of rskafka with a time limit. `classify` turns its error into ours.
pub(crate) async fn with_timeout<T, E>(
    limit: Duration,
    call: impl Future<Output = Result<T, E>>,
    classify: impl FnOnce(E) -> Error,
) -> Result<T, Error> {
    // Boxed, because rskafka's futures are large and would be a part of every future above them.
    // Unwind safe: after a panic the client is dropped and never used again.
    let call = Box::pin(AssertUnwindSafe(call).catch_unwind());
    match tokio::time::timeout(limit, call).await {
        Err(_elapsed) => Err(Error::TimedOut(limit)),
        Ok(Err(_panic)) => Err(Panicked.into()),
        Ok(Ok(result)) => result.map_err(classify),
    }
}
