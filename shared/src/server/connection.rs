//! The phases of a connection, and how long each may last. No I/O: the caller passes the time.
//!
//! ```text
//! accept ─▶ Head ─────────▶ Request ────────▶ Response ─────────▶ Idle ─▶ Head …
//!           HEADER_TIMEOUT   body and reply    until written       IDLE_TIMEOUT
//! ```
//!
//! - A client that has closed, and one that has only finished sending, both send a FIN. Within a request it starts
//!   [`HALF_CLOSE_GRACE`]: a response in this time is delivered. After it the request ends. A reset ends it at once.
//! - The deadline of a head does not move while its bytes arrive, so a slow sender cannot extend it.
//! - When the server closes while the client may still send, it goes on reading for [`LINGER`]: a reset for unread bytes would
//!   discard the response on its way (RFC 9112, 9.6).
//! - Bytes of the next head that arrive before the response are not seen here: that head starts in `Idle`, and the next byte
//!   starts its deadline.

use std::{io, time::Duration};

use tokio::time::Instant;

/// How long a request goes on after its client has sent a FIN.
pub(super) const HALF_CLOSE_GRACE: Duration = Duration::from_secs(2);

/// How long the server reads after its last response to a client that may still send. Less than the grace of a shutdown.
pub(super) const LINGER: Duration = Duration::from_millis(250);

/// How long the phases without a request may last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// From the accept, or the first byte of a head, to its last byte.
    pub(super) header: Duration,
    /// From a response to the first byte of the next head.
    pub(super) idle: Duration,
}

/// The phase of one connection.
#[derive(Debug)]
pub(super) struct Connection {
    timeouts: Timeouts,
    phase: Phase,
    deadline: Option<Instant>,
    /// The client has sent a FIN, and hyper does not know it yet.
    is_half_closed: bool,
    /// The client may still be sending a body that the server does not read.
    has_unread_body: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Head,
    Request,
    Response,
    Lingering,
}

/// What the server does with the end of the client's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndOfInput {
    /// Close the connection.
    Close,
    /// Hide it from hyper until the deadline: hyper would drop the request.
    Hold,
}

// === impl Connection ===

impl Connection {
    /// An accepted connection. Its first head has begun: a client that sends nothing does not get the longer idle timeout.
    pub(super) fn accepted(timeouts: Timeouts, now: Instant) -> Self {
        Self {
            timeouts,
            phase: Phase::Head,
            deadline: Some(now + timeouts.header),
            is_half_closed: false,
            has_unread_body: false,
        }
    }

    /// Bytes of the client were read. `now` is called for the first ones of a head.
    pub(super) fn received(&mut self, now: impl FnOnce() -> Instant) {
        if self.phase == Phase::Idle {
            self.phase = Phase::Head;
            self.deadline = Some(now() + self.timeouts.header);
        }
    }

    /// A head is complete.
    pub(super) fn begin_request(&mut self) {
        self.phase = Phase::Request;
        self.deadline = None;
    }

    /// The handler has made the response. It closes the connection if a part of the body is unread.
    pub(super) fn begin_response(&mut self, has_unread_body: bool) {
        self.phase = Phase::Response;
        self.has_unread_body = has_unread_body;
    }

    /// Every byte that hyper had to write is written. `true` when that was a response: then the connection is idle.
    pub(super) fn written(&mut self, now: impl FnOnce() -> Instant) -> bool {
        if self.phase != Phase::Response {
            return false;
        }
        self.phase = Phase::Idle;
        // After a held FIN nothing follows: the next read, at once, tells hyper.
        let idle = if self.is_half_closed {
            Duration::ZERO
        } else {
            self.timeouts.idle
        };
        self.deadline = Some(now() + idle);
        true
    }

    /// The client has sent a FIN. It may be reported several times.
    pub(super) fn end_of_input(&mut self, now: Instant) -> EndOfInput {
        if matches!(self.phase, Phase::Idle | Phase::Head) {
            return EndOfInput::Close;
        }
        if !self.is_half_closed {
            self.is_half_closed = true;
            self.deadline = Some(now + HALF_CLOSE_GRACE);
        }
        EndOfInput::Hold
    }

    /// The server has sent its FIN. Until the returned instant, it reads and drops what the client sends. In `Head`, hyper has
    /// refused the head and left the rest unread.
    pub(super) fn linger(&mut self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        let lingers = self.phase == Phase::Head || self.has_unread_body;
        if self.phase != Phase::Lingering {
            self.phase = Phase::Lingering;
            self.deadline = lingers.then(|| now() + LINGER);
        }
        self.deadline
    }

    /// Whether the client has sent a FIN within a request. No further request can follow.
    pub(super) fn is_half_closed(&self) -> bool {
        self.is_half_closed
    }

    /// When the present phase ends; `None` while a handler or its client decides on that.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// What a read returns after the deadline: the end of the input that was held, or an error.
    pub(super) fn expire(&self) -> io::Result<()> {
        if self.is_half_closed {
            Ok(())
        } else {
            Err(io::ErrorKind::TimedOut.into())
        }
    }
}

#[cfg(test)]
mod tests;
