//! The settings of a run: what is sent where, how fast and for how long.

use crate::{crew, journal::Journal, report::Report, request};
use std::{future::Future, io, net::SocketAddr, time::Duration};
use thiserror::Error;

/// One run of the generator.
#[derive(Debug, Clone)]
pub struct Load {
    /// Where the requests go; connections take them in turn. Only loopback addresses are accepted.
    pub targets: Vec<SocketAddr>,
    /// When requests are sent.
    pub mode: Mode,
    /// What is sent.
    pub question: Question,
    /// When the measured part ends; the warm-up comes before it.
    pub until: Until,
    /// How long requests are sent and checked, but not measured. Zero: not at all.
    pub warmup: Duration,
    /// How long a request may take from being sent, a connect included, to the last byte of the answer. In the open loop
    /// it may wait for a connection as long again before that.
    pub timeout: Duration,
    /// Whether a request is sent once more, on a new connection, if the server had closed the kept-alive one before
    /// it gave a byte of an answer. Without it, that is a connection error.
    pub retry: bool,
    /// Where each request is entered; closing it ends the run.
    pub journal: Option<Journal>,
}

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// As soon as a connection has its answer it sends the next request.
    Closed {
        /// How many connections do so at once.
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
    /// So many, all opened before the first request; they take turns.
    Fixed(usize),
    /// As many as it takes that one is free when a request is due, and never more than this.
    UpTo(usize),
}

/// When the measured part of a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// After this time. Requests that have begun are seen through to their answer.
    Elapsed(Duration),
    /// After so many requests.
    Requests(u64),
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// `POST /ping` with a name and a value of its own in each request.
    Post {
        /// The length of each request's body, reached by padding the value. At least [`Question::MIN_BODY_BYTES`],
        /// which is also what `None` gives.
        body_bytes: Option<usize>,
    },
    /// `GET /ping`. All requests are alike, so only the id tells the answers apart: a repeated one is a wrong answer.
    Get,
}

/// Why a run did not take place.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The target is a machine other than this one.
    #[error("{0} is not a loopback address, and this generator sends to no other")]
    NotLoopback(SocketAddr),
    /// Nowhere to send to.
    #[error("a load needs at least one target")]
    NoTargets,
    /// Nothing to send over.
    #[error("a load needs at least one connection")]
    NoConnections,
    /// A rate that is no positive number.
    #[error("{0} requests/s is not a rate above 0")]
    Rate(f64),
    /// The body has no room for what makes a request unique.
    #[error("a body of {0} bytes is too small: at least {min}", min = Question::MIN_BODY_BYTES)]
    Body(usize),
    /// The operating system gave no timer.
    #[error("no timer for the open loop")]
    Timer(#[source] io::Error),
}

// === impl Load ===

impl Load {
    /// A load with the defaults: unpadded `POST` requests for 10 s, no warm-up, a timeout of 15 s, no retry.
    ///
    /// The timeout is above the 10 s after which the gateway gives up, so that its own answer is seen.
    pub fn new(target: SocketAddr, mode: Mode) -> Self {
        Self::spread(vec![target], mode)
    }

    /// The same over several servers that are one system.
    pub fn spread(targets: Vec<SocketAddr>, mode: Mode) -> Self {
        Self {
            targets,
            mode,
            question: Question::Post { body_bytes: None },
            until: Until::Elapsed(Duration::from_secs(10)),
            warmup: Duration::ZERO,
            timeout: Duration::from_secs(15),
            retry: false,
            journal: None,
        }
    }

    /// Sends the load and reports. It must be called in a tokio runtime with I/O and time enabled; one thread is
    /// enough.
    ///
    /// # Errors
    /// Settings that make no sense, before anything is sent. What the server does is never an error: it is in the
    /// report.
    pub async fn run(self) -> Result<Report, LoadError> {
        self.run_until(std::future::pending()).await
    }

    /// Like [`Load::run`], but ends as soon as `stop` does, with the report so far. Requests in flight at that moment
    /// are dropped and in no count.
    ///
    /// # Errors
    /// As for [`Load::run`].
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<Report, LoadError> {
        self.check()?;
        crew::run(self, stop).await
    }

    fn check(&self) -> Result<(), LoadError> {
        if self.targets.is_empty() {
            return Err(LoadError::NoTargets);
        }
        // An IPv4 address in IPv6 clothes is judged by what it is.
        let foreign = self.targets.iter().find(|it| !it.ip().to_canonical().is_loopback());
        if let Some(foreign) = foreign {
            return Err(LoadError::NotLoopback(*foreign));
        }
        if self.mode.max_connections() == 0 {
            return Err(LoadError::NoConnections);
        }
        if let Mode::Open { rate, .. } = self.mode
            && !(rate.is_finite() && rate > 0.0)
        {
            return Err(LoadError::Rate(rate));
        }
        if let Question::Post {
            body_bytes: Some(bytes),
        } = self.question
            && bytes < Question::MIN_BODY_BYTES
        {
            return Err(LoadError::Body(bytes));
        }
        Ok(())
    }
}

// === impl Mode ===

impl Mode {
    /// The most connections that are ever open at once.
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

// === impl Question ===

impl Question {
    /// The length of an unpadded body.
    pub const MIN_BODY_BYTES: usize = request::MIN_BODY_BYTES;
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refusal(change: impl FnOnce(&mut Load)) -> LoadError {
        let mut load = Load::new(([127, 0, 0, 1], 1).into(), Mode::Closed { connections: 1 });
        change(&mut load);
        load.run().await.expect_err("the settings make no sense")
    }

    #[tokio::test]
    async fn only_this_machine_is_a_target() {
        for foreign in ["10.0.0.1:80", "[2001:db8::1]:80", "0.0.0.0:80", "[::ffff:10.0.0.1]:80"] {
            let error = refusal(|load| load.targets.push(foreign.parse().unwrap())).await;
            assert!(matches!(error, LoadError::NotLoopback(_)), "{foreign}: {error}");
        }
    }

    #[tokio::test]
    async fn settings_that_send_nothing_are_refused() {
        let error = refusal(|load| load.targets.clear()).await;
        assert!(matches!(error, LoadError::NoTargets));
        let error = refusal(|load| load.mode = Mode::Closed { connections: 0 }).await;
        assert!(matches!(error, LoadError::NoConnections));
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = refusal(|load| {
                load.mode = Mode::Open {
                    rate,
                    connections: Connections::Fixed(1),
                }
            })
            .await;
            assert!(matches!(error, LoadError::Rate(_)), "{rate}");
        }
        let error = refusal(|load| load.question = Question::Post { body_bytes: Some(5) }).await;
        assert!(matches!(error, LoadError::Body(5)));
    }
}
