//! The smallest HTTP client that can ask one of our own listeners.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Bound on the whole exchange: less than the time that container runtimes give a health check by default.
const LIMIT: Duration = Duration::from_secs(2);

/// More than any answer of ours; whatever else listens there may send what it likes.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body, what is not UTF-8 replaced.
    pub body: String,
}

/// Where on this host a listener on `addr` is reached.
#[must_use]
pub fn reachable(mut addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        addr.set_ip(match addr {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    addr
}

/// Gets `path` from the listener on `addr` of this host.
///
/// # Errors
/// When nobody answers within two seconds, or not in HTTP.
pub async fn get(addr: SocketAddr, path: &str) -> io::Result<Answer> {
    let addr = reachable(addr);
    timeout(LIMIT, exchange(addr, path))
        .await
        .unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
}

async fn exchange(addr: SocketAddr, path: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(addr).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut bytes).await?;
    let text = String::from_utf8_lossy(&bytes);
    let not_http = || io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP");
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(not_http)?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|it| it.get(..3)?.parse().ok());
    Ok(Answer {
        status: status.ok_or_else(not_http)?,
        body: body.to_owned(),
    })
}
