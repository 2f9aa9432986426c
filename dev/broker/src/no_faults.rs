//! The stand-in for `faults` in builds without that feature: nothing is ever staged, and it all compiles to nothing.

use std::future::pending;

use kafka_protocol::messages::ApiKey;

use crate::staged::Staged;

/// What is staged: nothing.
#[derive(Debug)]
pub(crate) struct Stage;

impl Stage {
    /// Nothing is staged.
    pub(crate) fn new() -> Self {
        Stage
    }

    /// What is staged for this call.
    #[expect(clippy::unused_self, reason = "the signature of its counterpart in `faults`")]
    pub(crate) fn next(&self, _api: ApiKey) -> Staged {
        Staged::default()
    }

    /// The node a group's coordinator was moved to.
    #[expect(clippy::unused_self, reason = "the signature of its counterpart in `faults`")]
    pub(crate) fn coordinator(&self, _group: &str) -> Option<i32> {
        None
    }

    /// The switches that act on a connection.
    #[expect(clippy::unused_self, reason = "the signature of its counterpart in `faults`")]
    pub(crate) fn line(&self) -> Line {
        Line
    }
}

/// The switches that act on a connection: none.
#[derive(Debug, Clone)]
pub(crate) struct Line;

impl Line {
    /// Waits until answers may go out.
    pub(crate) async fn open(&mut self) {}

    /// Waits until a connection has been idle for too long.
    pub(crate) async fn idle(&mut self) {
        pending().await
    }

    /// Waits until all connections are to be closed.
    pub(crate) async fn cut(&mut self) {
        pending().await
    }
}
