//! One keep-alive connection: bytes out, one response in.
//!
//! The buffer is reused and nothing is allocated per request. After a failure, or a cancelled exchange, the
//! connection is in an unknown state and is dropped: it is handed back only after a whole response.

use crate::head::{BadHead, Head};
use std::{io, net::SocketAddr};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// An unpadded answer with its head has about 250 bytes. While a read does not fill the buffer, tokio knows that the
/// socket is empty and does not ask the kernel again before the next answer.
const BUFFER_BYTES: usize = 1024;
/// The step for larger answers.
const MIN_READ_BYTES: usize = 16 * 1024;

/// A connection to the target.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
}

/// Why there is no response.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// No connection came about.
    #[error("connect")]
    Connect(#[source] io::Error),
    /// The server closed the connection before the response was complete.
    #[error("{}", if *.untouched { "closed before the answer" } else { "closed in the middle of the answer" })]
    Closed {
        /// Not one byte of a response had come.
        untouched: bool,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Unreadable(#[from] BadHead),
    #[error("bytes that belong to no answer")]
    Surplus,
}

/// What a kept connection has been up to since the last answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Idle {
    /// Nothing: it can be used.
    Quiet,
    /// The server closed it.
    Closed,
    /// The server sent something without being asked.
    Spoke,
}

// === impl Wire ===

impl Wire {
    pub(crate) async fn connect(target: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(target).await.map_err(Failure::Connect)?;
        // Larger requests leave in several segments, and Nagle would hold the last one back.
        stream.set_nodelay(true).map_err(Failure::Connect)?;
        Ok(Self {
            stream,
            received: Vec::with_capacity(BUFFER_BYTES),
        })
    }

    /// Looks at a kept connection before it is used again. It costs a system call only if there is something.
    pub(crate) fn idle(&self) -> Idle {
        match self.stream.try_read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Idle::Quiet,
            Err(_) | Ok(0) => Idle::Closed,
            Ok(_) => Idle::Spoke,
        }
    }

    /// Sends a request and reads the response to its end.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<Head, Failure> {
        self.received.clear();
        // A server may answer before it has read all of a body, and hang up: the read below tells, not the write.
        let sent = self.stream.write_all(request).await;
        let mut head = None;
        loop {
            let read = self.stream.read_buf(&mut self.received).await;
            match read {
                Ok(1..) => {}
                Ok(0) => {
                    return Err(self.closed(sent.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())));
                }
                Err(error) => return Err(self.closed(error)),
            }
            if head.is_none() {
                head = Head::parse(&self.received)?;
            }
            if let Some(head) = head {
                match self.received.len().cmp(&head.total_bytes()) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => return Ok(head),
                    std::cmp::Ordering::Greater => return Err(Failure::Surplus),
                }
            }
            if self.received.len() == self.received.capacity() {
                self.received.reserve(MIN_READ_BYTES);
            }
        }
    }

    /// The body of the last response.
    pub(crate) fn body(&self, head: &Head) -> &[u8] {
        self.received.get(head.head_bytes..).unwrap_or_default()
    }

    fn closed(&self, source: io::Error) -> Failure {
        Failure::Closed {
            untouched: self.received.is_empty(),
            source,
        }
    }
}
