//! The front: from an HTTP request to its answer.

use std::sync::Arc;

use hyper::{body::Incoming, http::request::Parts};
use kafka::Outbox;
use shared::server::{Answer, Handler, Peer};
use tracing::{debug, field};

use crate::{
    answers::{self, Refusal},
    bodies::Bodies,
    context::Context,
    mailbox::Mailbox,
    metrics::FrontMetrics,
    pending::Pending,
    requests::{Question, SendReceipts},
};

/// What answers callers.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) pending: Pending,
    pub(crate) outbox: Outbox<SendReceipts>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) metrics: FrontMetrics,
    pub(crate) bodies: Bodies,
}

// === impl Front ===

impl Handler for Front {
    type Asked = (Context, Result<Question, Refusal>);

    fn read(&self, head: &Parts, peer: Peer) -> Self::Asked {
        let question = match peer {
            Peer::Admitted => Question::of(head),
            Peer::Excess => Err(Refusal::TooManyConnections),
        };
        (Context::of(&head.headers), question)
    }

    async fn answer(&self, (context, question): Self::Asked, body: &mut Incoming) -> Answer {
        let outcome = match question {
            Ok(question) => self.ping(question, body, &context).await,
            Err(refusal) => Err(refusal),
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
    async fn ping(&self, question: Question, body: &mut Incoming, context: &Context) -> Result<Vec<u8>, Refusal> {
        let words = question.words(body, &self.bodies).await?;
        // The ticket before the record: the reply may be faster than the way back from the outbox. From here on
        // every way out drops the ticket, which frees the place.
        let ticket = self.pending.open()?;
        let (id, opened) = (ticket.id(), ticket.opened());
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
