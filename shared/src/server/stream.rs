//! The socket of a connection, with the time limits of [`Connection`].
//!
//! hyper has a timeout for heads as well. It starts when hyper begins to wait, so the idle time of a connection counts, and it
//! allocates a timer for each request.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

use super::connection::{Connection, EndOfInput};

/// A socket whose reads end at the deadline of its connection.
#[derive(Debug)]
pub(super) struct TimedStream {
    stream: TcpStream,
    connection: Arc<Mutex<Connection>>,
    timer: Timer,
}

/// A timer for a deadline that moves with each request. It is registered once per timeout, not once per request: if it is early,
/// it is set again when it fires.
#[derive(Debug)]
struct Timer(Pin<Box<Sleep>>);

// === impl TimedStream ===

impl TimedStream {
    pub(super) fn new(stream: TcpStream, connection: Arc<Mutex<Connection>>) -> Self {
        let deadline = connection.lock().deadline().unwrap_or_else(Instant::now);
        Self {
            stream,
            connection,
            timer: Timer(Box::pin(sleep_until(deadline))),
        }
    }
}

impl AsyncRead for TimedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let filled = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf)?;
        let mut connection = this.connection.lock();
        if read.is_ready() {
            if buf.filled().len() > filled {
                connection.received(Instant::now);
                return Poll::Ready(Ok(()));
            }
            if connection.end_of_input(Instant::now()) == EndOfInput::Close {
                return Poll::Ready(Ok(()));
            }
        }
        let Some(deadline) = connection.deadline() else {
            return Poll::Pending;
        };
        ready!(this.timer.poll(cx, deadline));
        Poll::Ready(connection.expire())
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    /// hyper flushes when its write buffer is empty.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        let mut connection = this.connection.lock();
        if connection.written(Instant::now)
            && let Some(deadline) = connection.deadline()
        {
            // hyper may wait for the read of the last phase, which had no deadline. `Ready` is found by its next read.
            let _ = this.timer.poll(cx, deadline);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        let Some(deadline) = this.connection.lock().linger(Instant::now) else {
            return Poll::Ready(Ok(()));
        };
        // Before the reads: they may use up the task's budget in tokio each time.
        if this.timer.poll(cx, deadline).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut bytes = [0; 4096];
        loop {
            let mut buf = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buf));
            // After a FIN or a reset the client sends no more.
            if read.is_err() || buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

// === impl Timer ===

impl Timer {
    /// Ready at `deadline`, or after it.
    fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        if deadline < self.0.deadline() {
            self.0.as_mut().reset(deadline);
        }
        loop {
            ready!(self.0.as_mut().poll(cx));
            if self.0.deadline() >= deadline {
                return Poll::Ready(());
            }
            self.0.as_mut().reset(deadline);
        }
    }
}
