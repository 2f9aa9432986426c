//! An address where nobody listens.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// A port that is taken, but refuses connections. As long as it exists, nobody else can listen there either.
#[derive(Debug)]
pub struct Nowhere(TcpSocket);

// === impl Nowhere ===

impl Nowhere {
    /// Takes a free port of the loopback.
    ///
    /// # Panics
    /// When there is none.
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
