//! A minimal HTTP client for listeners of this host: one request, the whole response, no TLS.

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

/// Bound on the whole exchange. The health checks in the Dockerfile have 3 s.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The most that is read of a response. A foreign process may listen on the port and send without end.
const MAX_RESPONSE_BYTES: u64 = 64 * 1024;

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body; bytes that are not UTF-8 are replaced by U+FFFD.
    pub body: String,
}

/// The address at which this host reaches a listener on `addr`: the unspecified address becomes loopback.
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
/// When there is no complete response within two seconds, or it is not HTTP.
pub async fn get(addr: SocketAddr, path: &str) -> io::Result<Response> {
    send(addr, "GET", path, &[], "").await
}

/// Sends a request to the listener on `addr` of this host. Headers are names and values.
///
/// # Errors
/// As for [`get`].
pub async fn send(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Response> {
    let addr = reachable(addr);
    let headers = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    let length = match body.len() {
        0 => String::new(),
        bytes => format!("content-length: {bytes}\r\n"),
    };
    let headers: String = headers.chain([length]).collect();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n{headers}\r\n{body}");
    timeout(TIMEOUT, exchange(addr, &request))
        .await
        .unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
}

async fn exchange(addr: SocketAddr, request: &str) -> io::Result<Response> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.take(MAX_RESPONSE_BYTES).read_to_end(&mut bytes).await?;
    let text = String::from_utf8_lossy(&bytes);
    let not_http = || io::Error::new(io::ErrorKind::InvalidData, "the response is not HTTP");
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(not_http)?;
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok());
    Ok(Response {
        status: status.ok_or_else(not_http)?,
        body: body.to_owned(),
    })
}
