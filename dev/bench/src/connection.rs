//! One keep-alive connection: writes a request, reads its response.
//!
//! The buffer is reused, so a request allocates nothing. After an error or a cancelled exchange the state of the
//! connection is unknown; the client drops it.

use crate::response::{BadResponse, ResponseHead};
use std::{io, net::SocketAddr};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// An unpadded response has about 250 bytes. While a read does not fill the buffer, tokio knows that the socket is empty
/// and does not call `read` again before the next response.
const BUFFER_BYTES: usize = 1024;

/// The step for larger responses.
const MIN_READ_BYTES: usize = 16 * 1024;

#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

/// Why there is no response.
#[derive(Debug, Error)]
pub(crate) enum ExchangeError {
    #[error("connect")]
    Connect(#[source] io::Error),
    #[error("{}", if *.before_response { "closed before the response" } else { "closed in the middle of the response" })]
    Closed {
        before_response: bool,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    BadResponse(#[from] BadResponse),
    #[error("bytes that belong to no response")]
    Surplus,
}

/// The state of a kept connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdleState {
    Usable,
    ClosedByServer,
    /// The server sent bytes without a request.
    HasSurplus,
}

// === impl Connection ===

impl Connection {
    pub(crate) async fn connect(target: SocketAddr) -> Result<Self, ExchangeError> {
        let stream = TcpStream::connect(target).await.map_err(ExchangeError::Connect)?;
        // Nagle would hold back the last segment of a large request.
        stream.set_nodelay(true).map_err(ExchangeError::Connect)?;
        Ok(Self {
            stream,
            received: Vec::with_capacity(BUFFER_BYTES),
        })
    }

    /// A system call only if the socket has become readable.
    pub(crate) fn idle_state(&self) -> IdleState {
        match self.stream.try_read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => IdleState::Usable,
            Err(_) | Ok(0) => IdleState::ClosedByServer,
            Ok(_) => IdleState::HasSurplus,
        }
    }

    /// Sends a request and reads the whole response.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<ResponseHead, ExchangeError> {
        self.received.clear();
        // A server may respond and close before it has read the body. Then the write fails and the read succeeds.
        let sent = self.stream.write_all(request).await;
        let mut head = None;
        loop {
            match self.stream.read_buf(&mut self.received).await {
                Ok(1..) => {}
                Ok(0) => {
                    let error = sent.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                    return Err(self.closed(error));
                }
                Err(error) => return Err(self.closed(error)),
            }
            if head.is_none() {
                head = ResponseHead::parse(&self.received)?;
            }
            if let Some(head) = head {
                match self.received.len().cmp(&head.total_bytes()) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => return Ok(head),
                    std::cmp::Ordering::Greater => return Err(ExchangeError::Surplus),
                }
            }
            if self.received.len() == self.received.capacity() {
                self.received.reserve(MIN_READ_BYTES);
            }
        }
    }

    /// The body of the last response.
    pub(crate) fn body(&self, head: &ResponseHead) -> &[u8] {
        self.received.get(head.head_bytes..).unwrap_or_default()
    }

    fn closed(&self, source: io::Error) -> ExchangeError {
        ExchangeError::Closed {
            before_response: self.received.is_empty(),
            source,
        }
    }
}
