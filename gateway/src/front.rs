//! The front: from an HTTP request to its answer.

use std::sync::Arc;

use hyper::{Method, Request, body::Incoming};
use shared::{
    kafka::Outbox,
    server::{Answer, Handler, Peer},
};
use tokio::time::Instant;
use tracing::{debug, field};

use crate::{
    answers::{self, Refusal},
    bodies::Bodies,
    context::Context,
    mailbox::Mailbox,
    metrics::FrontMetrics,
    pending::Pending,
    requests::{SendReceipts, Words},
};

/// What answers callers. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Front {
    pub(crate) pending: Pending,
    pub(crate) outbox: Outbox<SendReceipts>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) metrics: FrontMetrics,
    pub(crate) bodies: Arc<Bodies>,
}

// === impl Front ===

impl Handler for Front {
    async fn answer(&self, request: &mut Request<Incoming>, peer: Peer) -> Answer {
        let context = Context::of(request.headers());
        let outcome = match peer {
            Peer::Admitted => self.ping(request, &context).await,
            Peer::Excess => Err(Refusal::TooManyConnections),
        };
        let mut answer = match outcome {
            Ok(reply) => {
                self.metrics.answered();
                answers::reply(&reply)
            }
            Err(refusal) => {
                self.metrics.refused(refusal);
                refusal.answer()
            }
        };
        context.sign(&mut answer);
        answer
    }
}

impl Front {
    async fn ping(&self, request: &mut Request<Incoming>, context: &Context) -> Result<Vec<u8>, Refusal> {
        if request.uri().path() != "/ping" {
            return Err(Refusal::NotFound);
        }
        let words = match *request.method() {
            Method::GET => Words::ping(),
            Method::POST => Words::read(request, &self.bodies).await?,
            _ => return Err(Refusal::MethodNotAllowed),
        };
        // The ticket before the record: the reply may be faster than the way back from the outbox. From here on
        // every way out drops the ticket, which frees the place.
        let ticket = self.pending.open()?;
        let opened = Instant::now();
        let id = ticket.id();
        debug!(
            %id,
            traceparent = context.traceparent(),
            tracestate = context.tracestate(),
            x_request_id = context.request_id(),
            "request"
        );
        let mut headers = self.mailbox.headers(id);
        context.trace(&mut headers);
        if self.outbox.try_send(words.into_record(id, headers), id).is_err() {
            return Err(ticket.withdraw(Refusal::Full));
        }
        let outcome = ticket.await;
        debug!(%id, x_request_id = context.request_id(), refusal = outcome.as_ref().err().map(field::debug), "outcome");
        let reply = outcome?;
        self.metrics.latency.observe(opened.elapsed().as_secs_f64());
        Ok(reply)
    }
}
