//! A request to be handled, and how far its partition has come to its end.

use kafka::InFlightOffset;
use tokio::sync::watch;

use crate::{Request, handler::Service};

/// How far a partition has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It is read.
    Serving,
    /// What was read is still handled.
    Stopping,
    /// Nothing is handled any more.
    Ended,
}

/// A request to be handled.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) request: Request,
    pub(crate) service: Service,
    pub(crate) in_flight: InFlightOffset,
    /// Of its partition.
    pub(crate) phase: watch::Receiver<Phase>,
    /// Attempts that have failed.
    pub(crate) failed_attempts: u32,
}

// === impl Job ===

impl Job {
    /// Its key, body and headers.
    pub(crate) fn size_bytes(&self) -> usize {
        let key = self.request.key().map_or(0, <[u8]>::len);
        key + self.request.body().len() + self.request.record_headers().encoded().len()
    }

    /// Topic, partition and offset of the request.
    pub(crate) fn place(&self) -> String {
        let request = &self.request;
        format!("{}/{}/{}", request.topic(), request.partition(), request.offset())
    }
}

/// Resolves when the partition is at least in this phase.
pub(crate) async fn wait_for(phase: &mut watch::Receiver<Phase>, expected: Phase) {
    // An error means that the partition has ended.
    let _ = phase.wait_for(|phase| *phase >= expected).await;
}
