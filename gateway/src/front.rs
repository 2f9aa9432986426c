//! The front: from an HTTP request to its answer.

use std::time::Duration;

use hyper::{Method, Request, body::Incoming};
use shared::{
    kafka::Outbox,
    server::{Answer, Handler, Peer},
};
use tokio::time::Instant;

use crate::{
    answers::{self, Refusal},
    metrics::FrontMetrics,
    pending::Pending,
    requests::{SendReceipts, Words},
};

/// What answers callers. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Front {
    pub(crate) pending: Pending,
    pub(crate) outbox: Outbox<SendReceipts>,
    pub(crate) metrics: FrontMetrics,
    pub(crate) max_body_bytes: usize,
    /// How long a caller may take to send a body.
    pub(crate) body_timeout: Duration,
}

// === impl Front ===

impl Handler for Front {
    async fn answer(&self, request: Request<Incoming>, peer: Peer) -> Answer {
        let outcome = match peer {
            Peer::Admitted => self.ping(request).await,
            Peer::Excess => Err(Refusal::TooManyConnections),
        };
        match outcome {
            Ok(reply) => {
                self.metrics.answered();
                answers::reply(&reply)
            }
            Err(refusal) => {
                self.metrics.refused(refusal);
                refusal.answer()
            }
        }
    }
}

impl Front {
    async fn ping(&self, request: Request<Incoming>) -> Result<Vec<u8>, Refusal> {
        if request.uri().path() != "/ping" {
            return Err(Refusal::NotFound);
        }
        let words = match *request.method() {
            Method::GET => Words::ping(),
            Method::POST => {
                let (head, body) = request.into_parts();
                Words::read(&head.headers, body, self.max_body_bytes, self.body_timeout).await?
            }
            _ => return Err(Refusal::MethodNotAllowed),
        };
        // The ticket before the record: the reply may be faster than the way back from the outbox. From here on
        // every way out drops the ticket, which frees the place.
        let ticket = self.pending.open()?;
        let opened = Instant::now();
        let record = words.into_record(ticket.id());
        if self.outbox.try_send(record, ticket.id()).is_err() {
            return Err(ticket.withdraw(Refusal::Full));
        }
        let reply = ticket.await?;
        self.metrics.latency.observe(opened.elapsed().as_secs_f64());
        Ok(reply)
    }
}
