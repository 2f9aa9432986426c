//! The front: from an HTTP request to its answer.

use std::sync::Arc;

use hyper::{body::Incoming, http::request::Parts};
use kafka::Producer;
use shared::server::{Handler, Peer, Response};
use tracing::{debug, field};

use crate::{
    body::BodyReader,
    in_flight::InFlight,
    metrics::RequestMetrics,
    reply_address::ReplyAddress,
    request_context::RequestContext,
    response::{self, GatewayError},
    route::{GatewayDelivery, Route},
};

/// What answers callers.
#[derive(Debug)]
pub(crate) struct GatewayService {
    pub(crate) pending: InFlight,
    pub(crate) producer: Producer<GatewayDelivery>,
    pub(crate) reply_address: Arc<ReplyAddress>,
    pub(crate) metrics: RequestMetrics,
    pub(crate) bodies: BodyReader,
}

// === impl GatewayService ===

impl Handler for GatewayService {
    type Head = (RequestContext, Result<Route, GatewayError>);

    fn read_head(&self, head: &Parts, peer: Peer) -> Self::Head {
        let route = match peer {
            Peer::Admitted => Route::of(head),
            Peer::Excess => Err(GatewayError::TooManyConnections),
        };
        (RequestContext::of(&head.headers), route)
    }

    async fn respond(&self, (context, route): Self::Head, body: &mut Incoming) -> Response {
        let outcome = match route {
            Ok(route) => self.ping(route, body, &context).await,
            Err(error) => Err(error),
        };
        let mut answer = match outcome {
            Ok(reply) => {
                self.metrics.answered();
                response::reply(&reply)
            }
            Err(error) => {
                self.metrics.refused(error);
                error.answer()
            }
        };
        context.sign(&mut answer);
        answer
    }
}

impl GatewayService {
    async fn ping(&self, route: Route, body: &mut Incoming, context: &RequestContext) -> Result<Vec<u8>, GatewayError> {
        let body = route.body(body, &self.bodies).await?;
        // The pending_reply before the record: the reply may be faster than the way back from the producer. From here on
        // every way out drops the pending_reply, which frees the place.
        let pending_reply = self.pending.register()?;
        let (id, opened) = (pending_reply.id(), pending_reply.opened());
        debug!(
            %id,
            traceparent = context.traceparent(),
            tracestate = context.tracestate(),
            x_request_id = context.request_id(),
            "request"
        );
        let mut headers = self.reply_address.headers(id);
        context.trace(&mut headers);
        if self.producer.try_send(body.into_record(id, headers), id).is_err() {
            return Err(pending_reply.cancel(GatewayError::Full));
        }
        let outcome = pending_reply.await;
        debug!(%id, x_request_id = context.request_id(), error = outcome.as_ref().err().map(field::debug), "outcome");
        let reply = outcome?;
        self.metrics.latency.observe(opened.elapsed().as_secs_f64());
        Ok(reply)
    }
}
