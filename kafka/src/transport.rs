//! A byte stream to a broker: TCP, or TLS over it.
//!
//! - Writes are gathered in 8 KiB, reads buffered: the length of a message and its body come in two calls.
//! - The length before each answer is checked as it passes: an answer that is too long, or that is not Kafka's, is an error
//!   at once, before anything is allocated for it.

use std::{
    io,
    net::{Shutdown, SocketAddr},
    os::fd::AsFd,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use rustls::{ClientConfig, pki_types::ServerName};
use socket2::{SockRef, Socket, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, BufStream, ReadBuf},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The largest answer: many times what a fetch asks for, since one batch comes whole.
pub(crate) const MAX_RESPONSE_BYTES: usize = 8 << 20;

/// How long one address of several may take before the next is tried.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the peer may leave what was sent without an acknowledgement, and an idle connection without a sign of life.
const PEER_TIMEOUT: Duration = Duration::from_secs(10);

/// A stream to a broker.
#[derive(Debug)]
pub(crate) struct Transport {
    stream: BufStream<Stream>,
    lengths: LengthCheck,
    is_closed: Arc<AtomicBool>,
    /// Whether the next read panics, as a fault in TLS would.
    #[cfg(test)]
    panics: Arc<AtomicBool>,
}

/// What the owner of a transport keeps of it: the messenger that reads it shows neither.
#[derive(Debug)]
pub(crate) struct Handle {
    socket: Socket,
    is_closed: Arc<AtomicBool>,
    #[cfg(test)]
    panics: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Where a broker is: `host:port`, an IPv6 address in brackets or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPort<'a> {
    host: &'a str,
    port: u16,
}

/// Why there is no stream.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// There is no such host, or nothing answers there.
    Tcp(io::Error),
    /// TCP does, but TLS does not come about.
    Tls(io::Error),
}

/// What answers is not a Kafka broker, or not in the protocol that we speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotKafka {
    #[error("it answers in TLS")]
    Tls,
    #[error("it answers in HTTP")]
    Http,
    #[error("its answer claims {0} bytes")]
    Length(i32),
}

/// Follows the lengths of the messages in a stream.
#[derive(Debug, Default)]
struct LengthCheck {
    /// The bytes of a length that are there.
    length: [u8; 4],
    have: usize,
    /// What is left of the message.
    left: usize,
}

// === impl Transport ===

impl Transport {
    /// Connects to the first address of the broker that takes it. Gives a handle on it, too.
    ///
    /// # Errors
    /// What the last address said, or what TLS did.
    pub(crate) async fn connect(
        address: HostPort<'_>,
        tls: Option<Arc<ClientConfig>>,
    ) -> Result<(Self, Handle), ConnectError> {
        let tcp = connect_tcp(&address).await.map_err(ConnectError::Tcp)?;
        let socket = tcp
            .as_fd()
            .try_clone_to_owned()
            .map(Socket::from)
            .map_err(ConnectError::Tcp)?;
        let stream = match tls {
            None => Stream::Plain(tcp),
            Some(config) => {
                let name = ServerName::try_from(address.host.to_owned());
                let name = name.map_err(|error| ConnectError::Tls(io::Error::other(error)))?;
                let connected = TlsConnector::from(config).connect(name, tcp).await;
                Stream::Tls(Box::new(connected.map_err(ConnectError::Tls)?))
            }
        };
        let is_closed = Arc::new(AtomicBool::new(false));
        #[cfg(test)]
        let panics = Arc::new(AtomicBool::new(false));
        let handle = Handle {
            socket,
            is_closed: Arc::clone(&is_closed),
            #[cfg(test)]
            panics: Arc::clone(&panics),
        };
        let transport = Self {
            stream: BufStream::new(stream),
            lengths: LengthCheck::default(),
            is_closed,
            #[cfg(test)]
            panics,
        };
        Ok((transport, handle))
    }
}

async fn connect_tcp(address: &HostPort<'_>) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((address.host, address.port)).await? {
        match timeout(ADDRESS_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return prepare(stream),
            Ok(Err(error)) => last = at(address, &error),
            Err(_elapsed) => last = at(address, &io::ErrorKind::TimedOut.into()),
        }
    }
    Err(last)
}

fn at(address: SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{address}: {error}"))
}

fn prepare(stream: TcpStream) -> io::Result<TcpStream> {
    // A message is written as a whole: to wait for more of it is to wait for its answer.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    let keepalive = TcpKeepalive::new()
        .with_time(PEER_TIMEOUT)
        .with_interval(PEER_TIMEOUT / 4);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(PEER_TIMEOUT))?;
    Ok(stream)
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        #[cfg(test)]
        assert!(!this.panics.load(Ordering::Relaxed), "a read that a test makes panic");
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut this.stream).poll_read(cx, buf)).and_then(|()| {
            let read = buf.filled().get(before..).unwrap_or_default();
            if read.is_empty() && buf.remaining() > 0 {
                this.is_closed.store(true, Ordering::Relaxed);
            }
            this.lengths.check(read).map_err(io::Error::other)
        });
        if read.is_err() {
            this.is_closed.store(true, Ordering::Relaxed);
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

// === impl Handle ===

impl Handle {
    /// Whether the peer has closed the stream, or it failed.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Makes the next read panic.
    #[cfg(test)]
    pub(crate) fn make_reads_panic(&self) {
        self.panics.store(true, Ordering::Relaxed);
    }
}

impl Drop for Handle {
    /// Shuts the socket down: a write that the messenger goes on with after its caller was cancelled ends.
    fn drop(&mut self) {
        // An error means that the peer has closed it already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

// === impl Stream ===

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

// === impl HostPort ===

impl<'a> HostPort<'a> {
    /// Reads `host:port`, `[address]:port` or, for IPv6, `address:port`. `None` for anything else.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let port = port.parse().ok()?;
        (!bare.is_empty()).then_some(Self { host: bare, port })
    }
}

// === impl LengthCheck ===

impl LengthCheck {
    /// These bytes have been read.
    fn check(&mut self, mut bytes: &[u8]) -> Result<(), NotKafka> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len());
                self.left -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            let wanted = self.length.len() - self.have;
            let (taken, rest) = bytes.split_at(wanted.min(bytes.len()));
            if let Some(place) = self.length.get_mut(self.have..self.have + taken.len()) {
                place.copy_from_slice(taken);
            }
            self.have += taken.len();
            bytes = rest;
            if self.have == self.length.len() {
                self.have = 0;
                self.left = response_length(self.length)?;
            }
        }
        Ok(())
    }
}

fn response_length(bytes: [u8; 4]) -> Result<usize, NotKafka> {
    let length = i32::from_be_bytes(bytes);
    match usize::try_from(length) {
        Ok(length) if length <= MAX_RESPONSE_BYTES => Ok(length),
        // A TLS alert or handshake record, of any version (RFC 8446, 5.1).
        _ if matches!(bytes, [0x15 | 0x16, 3, ..]) => Err(NotKafka::Tls),
        _ if bytes == *b"HTTP" => Err(NotKafka::Http),
        _ => Err(NotKafka::Length(length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broker_addresses_may_be_names_ipv4_and_ipv6() {
        for (text, host, port) in [
            ("kafka:9092", "kafka", 9092),
            ("127.0.0.1:1", "127.0.0.1", 1),
            ("[::1]:9092", "::1", 9092),
            ("::1:9092", "::1", 9092),
        ] {
            assert_eq!(HostPort::parse(text), Some(HostPort { host, port }), "{text}");
        }
        for text in ["kafka", ":9092", "kafka:", "kafka:x", "kafka:65536", "[]:1"] {
            assert_eq!(HostPort::parse(text), None, "{text}");
        }
    }

    #[test]
    fn lengths_are_followed_whatever_the_pieces() {
        let bytes = [
            &5_i32.to_be_bytes()[..],
            b"hello",
            &0_i32.to_be_bytes(),
            &2_i32.to_be_bytes(),
            b"ab",
        ]
        .concat();
        for size in 1..bytes.len() {
            let mut check = LengthCheck::default();
            for piece in bytes.chunks(size) {
                check.check(piece).unwrap();
            }
            assert_eq!((check.have, check.left), (0, 0), "{size}");
        }
    }

    #[test]
    fn tls_http_and_foreign_lengths_are_told_apart() {
        for (bytes, error) in [
            (*b"HTTP", NotKafka::Http),
            ([0x15, 3, 3, 0], NotKafka::Tls),
            ([0x16, 3, 1, 2], NotKafka::Tls),
            ([0xff; 4], NotKafka::Length(-1)),
            (*b"SSH-", NotKafka::Length(i32::from_be_bytes(*b"SSH-"))),
        ] {
            assert_eq!(LengthCheck::default().check(&bytes), Err(error));
        }
    }
}
