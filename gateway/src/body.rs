//! BodyReader under way: each is bounded in bytes and in time, and all of them together in bytes.
//!
//! What counts is what has come, not what was announced: a caller who announces much and sends nothing takes nothing from
//! the others.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::sync::Semaphore;

use crate::response::GatewayError;

/// How much may be under way at the same time, in bytes: a thousand of the largest by default.
const MAX_TOTAL_BYTES: usize = 64 << 20;

/// The bounds of bodies.
#[derive(Debug)]
pub(crate) struct BodyReader {
    max_bytes: usize,
    timeout: Duration,
    /// A permit for each byte.
    budget: Semaphore,
}

// === impl BodyReader ===

impl BodyReader {
    /// BodyReader of at most `max_bytes`, each read within `limit`.
    pub(crate) fn new(max_bytes: usize, timeout: Duration) -> Self {
        Self {
            max_bytes,
            timeout,
            budget: Semaphore::new(MAX_TOTAL_BYTES),
        }
    }

    /// Reads a body, and gives what `parse` makes of it; the bytes are gone then.
    pub(crate) async fn read<T, B>(
        &self,
        mut body: B,
        parse: impl FnOnce(&[u8]) -> Result<T, GatewayError>,
    ) -> Result<T, GatewayError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        // A body that announces its size is refused before any of it is read, and before `100 Continue`.
        if body.size_hint().lower() > u64::try_from(self.max_bytes).unwrap_or(u64::MAX) {
            return Err(GatewayError::BodyTooLarge);
        }
        let read = async {
            let mut bytes = Vec::new();
            let mut held = self.budget.try_acquire_many(0).map_err(|_| GatewayError::Full)?;
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|_gone_or_malformed| GatewayError::BadBody)?;
                // Trailers say nothing to us.
                let Ok(data) = frame.into_data() else { continue };
                if data.len() > self.max_bytes - bytes.len() {
                    return Err(GatewayError::BodyTooLarge);
                }
                let permits = u32::try_from(data.len()).map_err(|_| GatewayError::BodyTooLarge)?;
                held.merge(self.budget.try_acquire_many(permits).map_err(|_| GatewayError::Full)?);
                bytes.extend_from_slice(&data);
            }
            parse(&bytes)
        };
        tokio::time::timeout(self.timeout, read)
            .await
            .unwrap_or(Err(GatewayError::BodyTooSlow))
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

    /// Sends its pieces, and then nothing more, nor its end.
    struct Slow(Vec<&'static [u8]>);

    impl Body for Slow {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.pop() {
                Some(piece) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece))))),
                None => Poll::Pending,
            }
        }
    }

    fn bodies(max_bytes: usize, room_bytes: usize) -> BodyReader {
        BodyReader {
            budget: Semaphore::new(room_bytes),
            ..BodyReader::new(max_bytes, Duration::from_secs(1))
        }
    }

    async fn read(bodies: &BodyReader, text: &'static str) -> Result<String, GatewayError> {
        let body = http_body_util::Full::new(Bytes::from_static(text.as_bytes()));
        let text = |bytes: &[u8]| Ok(String::from_utf8(bytes.to_vec()).unwrap());
        bodies.read(body, text).await
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_under_way_have_a_bound_together() {
        let bodies = bodies(10, 12);
        let mut first = Box::pin(bodies.read(Slow(vec![b"four", b"four"]), |_| Ok(())));
        assert!(
            first
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        assert_eq!(read(&bodies, "five!").await, Err(GatewayError::Full));
        assert_eq!(read(&bodies, "four").await.unwrap(), "four");
        assert_eq!(first.await, Err(GatewayError::BodyTooSlow));
        assert_eq!(read(&bodies, "five!").await.unwrap(), "five!");
        assert_eq!(bodies.budget.available_permits(), 12);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_announced_takes_no_room() {
        let bodies = bodies(10, 10);
        let mut silent = pin!(bodies.read(Slow(vec![]), |_| Ok(())));
        assert!(
            silent
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        assert_eq!(read(&bodies, "ten bytes!").await.unwrap(), "ten bytes!");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_a_bound_of_its_own() {
        let bodies = bodies(8, 100);
        assert_eq!(read(&bodies, "12345678").await.unwrap(), "12345678");
        assert_eq!(read(&bodies, "123456789").await, Err(GatewayError::BodyTooLarge));
        let pieces = Slow(vec![b"four", b"four", b"!"]);
        assert_eq!(bodies.read(pieces, |_| Ok(())).await, Err(GatewayError::BodyTooLarge));
        assert_eq!(bodies.budget.available_permits(), 100);
    }
}
