//! The settings of a run: what is sent where, how fast and for how long.

use crate::{report::Report, request, request_log::RequestLog, run};
use std::{future::Future, io, net::SocketAddr, time::Duration};
use thiserror::Error;

/// One run of the generator.
#[derive(Debug, Clone)]
pub struct Load {
    /// Where the requests go. Only loopback addresses are accepted.
    pub target: SocketAddr,
    /// When requests are sent.
    pub mode: Mode,
    /// What is sent.
    pub request: RequestKind,
    /// When the measured part ends; the warm-up comes before it.
    pub until: Until,
    /// How long requests are sent and checked, but not measured.
    pub warmup: Duration,
    /// Limit from sending a request, a connect included, to the last byte of the response. In the open loop a request may
    /// wait as long again for a connection.
    pub timeout: Duration,
    /// Records each request; closing it ends the run.
    pub log: Option<RequestLog>,
}

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// Each connection sends its next request after the response to the last one.
    Closed {
        /// Number of connections.
        connections: usize,
    },
    /// At fixed instants, whatever the server does.
    Open {
        /// Requests per second.
        rate: f64,
        /// What they are sent over.
        connections: Connections,
    },
}

/// The connections of the open loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// This many, opened before the first request; they take turns.
    Fixed(usize),
    /// A new one when a request is due and none is idle, up to this many.
    UpTo(usize),
}

/// When the measured part of a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// After this time. The run waits for the responses in flight.
    Elapsed(Duration),
    /// After this many requests.
    Requests(u64),
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// `POST /ping` with a unique name and value in each request.
    Post {
        /// Length of the body; the value is padded to it. `None` is [`RequestKind::MIN_BODY_BYTES`].
        body_bytes: Option<usize>,
    },
    /// `POST /orders/{order}/items/{item}` with four headers and a unique name and value. The routes of the gateway are
    /// [`RequestKind::routes`]; the worker is that of `/ping`.
    Route {
        /// Length of the body; the value is padded to it.
        body_bytes: usize,
    },
    /// `GET /ping`. All requests are equal, so a wrong response is detected only by a repeated id.
    Get,
}

/// Settings that no run can have.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The target is another machine.
    #[error("{0} is not a loopback address, and this generator sends to no other")]
    NotLoopback(SocketAddr),
    /// No connections.
    #[error("a load needs at least one connection")]
    NoConnections,
    /// The rate is not a positive number.
    #[error("{0} requests/s is not a rate above 0")]
    Rate(f64),
    /// The body has no room for a unique name and value.
    #[error("a body of {0} bytes is too small: at least {1}")]
    Body(usize, usize),
    /// The operating system gave no timer.
    #[error("no timer for the open loop")]
    Timer(#[source] io::Error),
}

// === impl Load ===

impl Load {
    /// Unpadded `POST` requests for 10 s, no warm-up, and a timeout of 15 s.
    ///
    /// The timeout is above the gateway's own 10 s, so that its response to a timeout is seen.
    pub fn new(target: SocketAddr, mode: Mode) -> Self {
        Self {
            target,
            mode,
            request: RequestKind::Post { body_bytes: None },
            until: Until::Elapsed(Duration::from_secs(10)),
            warmup: Duration::ZERO,
            timeout: Duration::from_secs(15),
            log: None,
        }
    }

    /// Sends the load, in a tokio runtime with I/O and time enabled. One thread is enough.
    ///
    /// # Errors
    /// Invalid settings, before anything is sent. What the server does is in the report.
    pub async fn run(self) -> Result<Report, LoadError> {
        self.run_until(std::future::pending()).await
    }

    /// Like [`Load::run`], but ends with `stop`. Requests in flight at that moment are in no count.
    ///
    /// # Errors
    /// As for [`Load::run`].
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<Report, LoadError> {
        self.validate()?;
        run::run(self, stop).await
    }

    fn validate(&self) -> Result<(), LoadError> {
        // `to_canonical`: an IPv4-mapped IPv6 address counts as the IPv4 address.
        if !self.target.ip().to_canonical().is_loopback() {
            return Err(LoadError::NotLoopback(self.target));
        }
        if self.mode.max_connections() == 0 {
            return Err(LoadError::NoConnections);
        }
        match (self.mode, self.request) {
            (Mode::Open { rate, .. }, _) if !(rate.is_finite() && rate > 0.0) => Err(LoadError::Rate(rate)),
            (
                _,
                RequestKind::Post {
                    body_bytes: Some(bytes),
                },
            ) if bytes < RequestKind::MIN_BODY_BYTES => Err(LoadError::Body(bytes, RequestKind::MIN_BODY_BYTES)),
            (_, RequestKind::Route { body_bytes }) if body_bytes < request::MIN_ROUTE_BODY_BYTES => {
                Err(LoadError::Body(body_bytes, request::MIN_ROUTE_BODY_BYTES))
            }
            _ => Ok(()),
        }
    }
}

// === impl Mode ===

impl Mode {
    /// The most connections that are open at once.
    pub fn max_connections(&self) -> usize {
        match *self {
            Self::Closed { connections } => connections,
            Self::Open {
                connections: Connections::Fixed(n) | Connections::UpTo(n),
                ..
            } => n,
        }
    }
}

// === impl RequestKind ===

impl RequestKind {
    /// Length of an unpadded body.
    pub const MIN_BODY_BYTES: usize = request::MIN_BODY_BYTES;

    /// The file of routes that [`RequestKind::Route`] needs, for these topics.
    pub fn routes(topic: &str, reply_topic: &str) -> String {
        let headers = request::ROUTE_HEADERS.map(|name| format!("\"{name}\"")).join(", ");
        format!(
            "[[route]]\non = \"POST /orders/{{order}}/items/{{item}}\"\ntopic = \"{topic}\"\n\
             reply_topic = \"{reply_topic}\"\nrequest_headers = [{headers}]\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn error(change: impl FnOnce(&mut Load)) -> LoadError {
        let mut load = Load::new(([127, 0, 0, 1], 1).into(), Mode::Closed { connections: 1 });
        change(&mut load);
        load.run().await.expect_err("the settings are invalid")
    }

    #[tokio::test]
    async fn target_must_be_a_loopback_address() {
        for foreign in ["10.0.0.1:80", "[2001:db8::1]:80", "0.0.0.0:80", "[::ffff:10.0.0.1]:80"] {
            let error = error(|load| load.target = foreign.parse().unwrap()).await;
            assert!(matches!(error, LoadError::NotLoopback(_)), "{foreign}: {error}");
        }
    }

    #[tokio::test]
    async fn invalid_settings_are_errors() {
        let none = error(|load| load.mode = Mode::Closed { connections: 0 }).await;
        assert!(matches!(none, LoadError::NoConnections));
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = error(|load| {
                load.mode = Mode::Open {
                    rate,
                    connections: Connections::Fixed(1),
                }
            })
            .await;
            assert!(matches!(error, LoadError::Rate(_)), "{rate}");
        }
        let small = error(|load| load.request = RequestKind::Post { body_bytes: Some(5) }).await;
        assert!(matches!(small, LoadError::Body(5, _)));
    }
}
