//! Listening sockets, and the error that names the setting of one that cannot be bound.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket};
use tracing::info;

/// Backlog of a listening socket. The kernel lowers it to `net.core.somaxconn`; with SYN cookies, it resets a connection
/// beyond the backlog after 200 ms.
const BACKLOG: u32 = i32::MAX.cast_unsigned();

/// A listening socket cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("{variable}: cannot listen on {addr}; set it to another address")]
pub struct BindError {
    variable: &'static str,
    addr: SocketAddr,
    source: io::Error,
}

// === impl BindError ===

impl BindError {
    /// `variable` is the setting that configures `addr`.
    #[must_use]
    pub fn new(variable: &'static str, addr: SocketAddr, source: io::Error) -> Self {
        Self { variable, addr, source }
    }
}

/// Listens on the address that the setting `variable` configures. Port 0 means any free port.
///
/// # Errors
/// When the port is in use, or the process has no permission for it.
pub fn bind(variable: &'static str, addr: SocketAddr) -> Result<TcpListener, BindError> {
    let failed = |source| BindError::new(variable, addr, source);
    let listener = listen(addr).map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    info!(variable, %addr, "listening");
    Ok(listener)
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // After a restart, connections of the previous process may still be in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}
