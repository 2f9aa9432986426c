//! An address that refuses connections.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// A bound port without a listener. While this value exists, no other process can listen there.
#[derive(Debug)]
pub struct ClosedPort(TcpSocket);

// === impl ClosedPort ===

impl ClosedPort {
    /// Binds a free port of the loopback.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn reserve() -> Self {
        let socket = TcpSocket::new_v4().expect("there is a descriptor left");
        socket
            .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .expect("there is a port left");
        Self(socket)
    }

    /// The address.
    ///
    /// # Panics
    /// Never: it is bound.
    #[must_use]
    pub fn addr(&self) -> String {
        self.0.local_addr().expect("it is bound").to_string()
    }
}
