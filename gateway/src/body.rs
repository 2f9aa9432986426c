//! Reads request bodies, with bounds in bytes and time for each, and in bytes for all of them together.
//!
//! The common bound counts bytes received, not the announced content-length: a caller that announces a large body and
//! sends none blocks no other.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::sync::Semaphore;

use crate::response::GatewayError;

/// Bytes of all incomplete bodies: a thousand of the default `MAX_BODY`.
const MAX_TOTAL_BYTES: usize = 64 << 20;

/// Reads bodies within their bounds.
#[derive(Debug)]
pub(crate) struct BodyReader {
    timeout: Duration,
    /// A permit for each byte.
    budget: Semaphore,
    /// Without permits; closed at the end of the drain.
    shutdown: Semaphore,
}

// === impl BodyReader ===

impl BodyReader {
    /// For bodies that arrive within `timeout`.
    pub(crate) fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            budget: Semaphore::new(MAX_TOTAL_BYTES),
            shutdown: Semaphore::new(0),
        }
    }

    /// Fails every read, now and later: the process ends before the rest of a body may arrive.
    pub(crate) fn shut_down(&self) {
        self.shutdown.close();
    }

    /// Reads a body of at most `max_bytes` and parses it. Its bytes count until `parse` returns.
    pub(crate) async fn read<T, B>(
        &self,
        mut body: B,
        max_bytes: usize,
        parse: impl FnOnce(Vec<u8>) -> Result<T, GatewayError>,
    ) -> Result<T, GatewayError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        // By its content-length, before any of it is read and before `100 Continue` is sent.
        if body.size_hint().lower() > u64::try_from(max_bytes).unwrap_or(u64::MAX) {
            return Err(GatewayError::BodyTooLarge);
        }
        let read = async {
            let mut bytes = Vec::new();
            let mut held = self.budget.try_acquire_many(0).map_err(|_| GatewayError::Full)?;
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|_disconnected_or_malformed| GatewayError::BadBody)?;
                // Trailers are ignored.
                let Ok(data) = frame.into_data() else { continue };
                if data.len() > max_bytes - bytes.len() {
                    return Err(GatewayError::BodyTooLarge);
                }
                let permits = u32::try_from(data.len()).map_err(|_| GatewayError::BodyTooLarge)?;
                held.merge(self.budget.try_acquire_many(permits).map_err(|_| GatewayError::Full)?);
                bytes.extend_from_slice(&data);
            }
            parse(bytes)
        };
        tokio::select! {
            biased;
            read = tokio::time::timeout(self.timeout, read) => read.unwrap_or(Err(GatewayError::BodyTooSlow)),
            // It has no permits, so this ends only when it is closed.
            _ = self.shutdown.acquire() => Err(GatewayError::ShuttingDown),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        pin::{Pin, pin},
        task::{Context, Poll, Waker},
    };

    use hyper::body::Frame;

    use super::*;

    /// Yields its chunks from the last to the first, and never ends.
    struct Unfinished(Vec<&'static [u8]>);

    impl Body for Unfinished {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.pop() {
                Some(chunk) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(chunk))))),
                None => Poll::Pending,
            }
        }
    }

    const MAX_BYTES: usize = 10;

    fn body_reader(max_total_bytes: usize) -> BodyReader {
        BodyReader {
            budget: Semaphore::new(max_total_bytes),
            ..BodyReader::new(Duration::from_secs(1))
        }
    }

    async fn read(body_reader: &BodyReader, text: &'static str) -> Result<String, GatewayError> {
        let body = http_body_util::Full::new(Bytes::from_static(text.as_bytes()));
        let text = |bytes| Ok(String::from_utf8(bytes).unwrap());
        body_reader.read(body, MAX_BYTES, text).await
    }

    #[tokio::test(start_paused = true)]
    async fn incomplete_bodies_have_a_common_bound() {
        let body_reader = body_reader(12);
        let mut first = Box::pin(body_reader.read(Unfinished(vec![b"four", b"four"]), MAX_BYTES, |_| Ok(())));
        assert!(
            first
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        assert_eq!(read(&body_reader, "five!").await, Err(GatewayError::Full));
        assert_eq!(read(&body_reader, "four").await.unwrap(), "four");
        assert_eq!(first.await, Err(GatewayError::BodyTooSlow));
        assert_eq!(read(&body_reader, "five!").await.unwrap(), "five!");
        assert_eq!(body_reader.budget.available_permits(), 12);
    }

    #[tokio::test(start_paused = true)]
    async fn announced_bytes_do_not_count() {
        let body_reader = body_reader(10);
        let mut silent = pin!(body_reader.read(Unfinished(vec![]), MAX_BYTES, |_| Ok(())));
        assert!(
            silent
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        assert_eq!(read(&body_reader, "ten bytes!").await.unwrap(), "ten bytes!");
    }

    #[tokio::test(start_paused = true)]
    async fn body_above_the_bound_is_too_large() {
        let body_reader = body_reader(100);
        assert_eq!(read(&body_reader, "1234567890").await.unwrap(), "1234567890");
        assert_eq!(read(&body_reader, "12345678901").await, Err(GatewayError::BodyTooLarge));
        let chunks = Unfinished(vec![b"four", b"four", b"!!!"]);
        assert_eq!(
            body_reader.read(chunks, MAX_BYTES, |_| Ok(())).await,
            Err(GatewayError::BodyTooLarge)
        );
        assert_eq!(body_reader.budget.available_permits(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_fails_an_incomplete_body_at_once() {
        let body_reader = body_reader(10);
        let start = tokio::time::Instant::now();
        let read = body_reader.read(Unfinished(vec![b"four"]), MAX_BYTES, |_| Ok(()));
        let (read, ()) = tokio::join!(read, async { body_reader.shut_down() });
        assert_eq!(read, Err(GatewayError::ShuttingDown));
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(body_reader.budget.available_permits(), 10);
    }
}
