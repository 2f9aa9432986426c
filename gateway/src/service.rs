//! One request, from its head to its response.
//!
//! 1. The head is read: which route, which trace. A request without a route is refused.
//! 2. Admission is checked before the body is read, so that a refused request costs neither memory nor time.
//! 3. The body is read. Until it is complete the request is not in flight: it takes no place of `MAX_IN_FLIGHT` and no reply
//!    timeout, so a slow sender cannot crowd out others. Its own bounds are `HEADER_TIMEOUT`, and [`BodyReader`]'s in bytes.
//! 4. The request is registered, which decides on admission again, and after that its record is handed to the producer.
//! 5. The outcome becomes the response.

use std::sync::Arc;

use bytes::Bytes;
use hyper::{
    body::{Body, Incoming},
    http::request::Parts,
};
use kafka::Producer;
use shared::server::{Handler, Refusal, Response};
use tracing::{debug, field};

use crate::{
    body::BodyReader,
    in_flight::{InFlight, Outcome},
    metrics::RequestMetrics,
    ping_body::PingBody,
    reply_address::ReplyAddress,
    request_context::RequestContext,
    response::{self, GatewayError},
    route::Route,
};

/// Answers the requests of all connections.
#[derive(Debug)]
pub(crate) struct GatewayService {
    pub(crate) in_flight: InFlight,
    pub(crate) producer: Producer<InFlight>,
    pub(crate) reply_address: Arc<ReplyAddress>,
    pub(crate) metrics: RequestMetrics,
    pub(crate) body_reader: Arc<BodyReader>,
}

// === impl GatewayService ===

impl Handler for GatewayService {
    type Head = (RequestContext, Result<Route, GatewayError>);

    fn read_head(&self, head: &Parts, accepted: Result<(), Refusal>) -> Self::Head {
        let route = accepted
            .map_err(GatewayError::from)
            .and_then(|()| Route::from_head(head));
        (RequestContext::from_headers(&head.headers), route)
    }

    async fn respond(&self, (context, route): Self::Head, body: &mut Incoming) -> Response {
        let outcome = match route {
            Ok(route) => self.call(route, body, &context).await,
            Err(error) => Err(error),
        };
        let mut response = match outcome {
            Ok(value) => {
                self.metrics.answered();
                response::reply(&value)
            }
            Err(error) => {
                self.metrics.refused(error);
                error.response()
            }
        };
        context.add_request_id(&mut response);
        response
    }
}

impl GatewayService {
    /// From the body of a request to the value of its reply.
    async fn call<B>(&self, route: Route, body: B, context: &RequestContext) -> Outcome
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let body = match route {
            Route::GetPing => PingBody::default(),
            Route::PostPing => {
                self.in_flight.check_admission()?;
                self.body_reader.read(body, PingBody::from_json).await?
            }
        };

        // Before the record is sent: the reply may arrive before `try_send` returns.
        let pending_reply = self.in_flight.register()?;
        let (id, registered) = (pending_reply.id(), pending_reply.registered());
        debug!(
            %id,
            traceparent = context.traceparent(),
            tracestate = context.tracestate(),
            x_request_id = context.request_id(),
            "request"
        );

        let mut headers = self.reply_address.headers(id);
        context.add_trace(&mut headers);
        if self
            .producer
            .try_send(body.into_record(id, headers), id, Some(pending_reply.deadline()))
            .is_err()
        {
            return Err(pending_reply.cancel(GatewayError::Full));
        }

        let outcome = pending_reply.outcome().await;
        debug!(%id, x_request_id = context.request_id(), error = outcome.as_ref().err().map(field::debug), "outcome");
        if outcome.is_ok() {
            self.metrics.latency.observe(registered.elapsed().as_secs_f64());
        }
        outcome
    }
}

#[cfg(test)]
mod tests;
