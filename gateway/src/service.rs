//! One request, from its head to its response.
//!
//! 1. The head is read: which route, which trace, and for the `http` contract the headers of the record. A request without a
//!    route is refused.
//! 2. Admission is checked before the body is read, so that a refused request costs neither memory nor time.
//! 3. The body is read. Until it is complete the request is not in flight: it takes no place of `MAX_IN_FLIGHT` and no reply
//!    timeout, so a slow sender cannot crowd out others. Its own bounds are `HEADER_TIMEOUT`, and [`BodyReader`]'s in bytes.
//! 4. The request is registered, which decides on admission again, and after that its record is handed to the producer.
//! 5. The outcome becomes the response.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::{
    body::{Body, Incoming},
    header::{ALLOW, HeaderName, HeaderValue},
    http::request::Parts,
};
use kafka::Record;
use shared::{
    headers::{HeaderBuf, http},
    server::{Handler, RequestError, Response},
};
use tracing::{debug, field};
use uuid::Uuid;

use crate::{
    body::BodyReader,
    http_reply::{BadStatus, HttpReply},
    http_request::HttpRequest,
    in_flight::{InFlight, PendingReply, Reply},
    metrics::{RequestMetrics, RouteMetrics},
    ping_body::{PingBody, PingRequest},
    reply_address::AddressHeaders,
    request_context::RequestContext,
    request_topic::RequestTopic,
    response::{self, GatewayError},
    routes::{Contract, Match, Route, Router},
    unusable_replies::{Unusable, UnusableReplies},
};

static PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Answers the requests of all connections.
#[derive(Debug)]
pub(crate) struct GatewayService {
    pub(crate) router: Router,
    /// By the indices of the router.
    pub(crate) routes: Vec<RouteService>,
    pub(crate) in_flight: InFlight,
    pub(crate) metrics: RequestMetrics,
    pub(crate) body_reader: Arc<BodyReader>,
    pub(crate) unusable: UnusableReplies,
}

/// A route, and what serves it.
#[derive(Debug)]
pub(crate) struct RouteService {
    pub(crate) index: usize,
    pub(crate) route: Route,
    pub(crate) topic: Arc<RequestTopic>,
    pub(crate) address: AddressHeaders,
    pub(crate) metrics: RouteMetrics,
}

/// What the head of a request asks for.
#[derive(Debug)]
pub(crate) enum RequestHead {
    /// The index of a route.
    Route(usize, Result<Request, GatewayError>),
    /// Answered with `Allow`.
    Options(HeaderValue),
    /// Refused without a route, perhaps with `Allow`.
    Refused(GatewayError, Option<HeaderValue>),
}

/// A request without its body, by the contract of its route.
#[derive(Debug)]
pub(crate) enum Request {
    Ping(PingRequest),
    Http(Box<HttpRequest>),
}

/// What the body of a request becomes.
#[derive(Debug)]
pub(crate) enum Content {
    Ping(PingBody),
    /// The value of the record.
    Http(Vec<u8>),
}

// === impl GatewayService ===

impl Handler for GatewayService {
    type Head = (RequestContext, RequestHead);

    fn read_head(&self, head: &Parts, accepted: Result<(), RequestError>) -> Self::Head {
        let request = match accepted {
            Ok(()) => self.find(head),
            Err(error) => RequestHead::Refused(error.into(), None),
        };
        (RequestContext::from_headers(&head.headers), request)
    }

    async fn respond(&self, (context, head): Self::Head, body: &mut Incoming) -> Response {
        let mut response = match head {
            RequestHead::Route(index, request) => match self.routes.get(index) {
                Some(route) => self.respond_by(route, request, body, &context).await,
                None => GatewayError::NotFound.response(None),
            },
            RequestHead::Options(allow) => {
                self.metrics.answered_options();
                response::options(allow)
            }
            RequestHead::Refused(error, allow) => {
                self.metrics.refused(error);
                let mut response = error.response(None);
                if let Some(allow) = allow {
                    response.headers_mut().insert(ALLOW, allow);
                }
                response
            }
        };
        context.add_request_id(&mut response);
        response
    }
}

impl GatewayService {
    fn find(&self, head: &Parts) -> RequestHead {
        match self.router.find(&head.method, head.uri.path()) {
            Match::Route { index, method, params } => {
                let Some(RouteService { route, .. }) = self.routes.get(index) else {
                    return RequestHead::Refused(GatewayError::NotFound, None);
                };
                let request = match route.contract {
                    Contract::Ping => PingRequest::from_head(head).map(Request::Ping),
                    Contract::Http => {
                        let values = params.iter().map(|(_, value)| value);
                        HttpRequest::from_head(route, method, values, head)
                            .map(|request| Request::Http(Box::new(request)))
                    }
                };
                RequestHead::Route(index, request)
            }
            Match::Options(allow) => RequestHead::Options(allow.clone()),
            Match::MethodNotAllowed(allow) => RequestHead::Refused(GatewayError::MethodNotAllowed, Some(allow.clone())),
            Match::NotFound => RequestHead::Refused(GatewayError::NotFound, None),
        }
    }

    async fn respond_by<B>(
        &self,
        route: &RouteService,
        request: Result<Request, GatewayError>,
        body: B,
        context: &RequestContext,
    ) -> Response
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let wait = request.as_ref().ok().and_then(Request::wait);
        let outcome = match request {
            Ok(request) => self.call(route, request, body, context).await,
            Err(error) => Err(error),
        };
        let response = match outcome {
            Ok((id, None)) => Ok(response::stored(id)),
            Ok((_, Some(reply))) if route.route.contract == Contract::Ping => {
                Ok(response::ping_reply(reply.record.value().unwrap_or_default()))
            }
            Ok((_, Some(reply))) => self.http_reply(route, &reply),
            Err(error) => Err(error),
        };
        let mut response = match response {
            Ok(response) => {
                route.metrics.answered(response.status().as_u16());
                response
            }
            Err(error) => {
                route.metrics.refused(error);
                error.response(Some(&route.route))
            }
        };
        if let Some(wait) = wait
            && let Ok(applied) = HeaderValue::from_str(&format!("wait={}", wait.as_secs()))
        {
            response.headers_mut().insert(&PREFERENCE_APPLIED, applied);
        }
        response
    }

    /// From a request to its reply, or to the acknowledgement.
    async fn call<B>(
        &self,
        route: &RouteService,
        request: Request,
        body: B,
        context: &RequestContext,
    ) -> Result<(Uuid, Option<Reply>), GatewayError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let timeout = request.wait().unwrap_or(Duration::MAX).min(route.route.timeout);
        let content = if let Request::Ping(PingRequest::Get) = request {
            Content::Ping(PingBody::default())
        } else {
            self.check_admission(route, timeout)?;
            let parse = |bytes| request.parse(bytes);
            self.body_reader.read(body, route.route.max_body, parse).await?
        };
        let pending_reply = self.register(route, timeout, context)?;
        let (id, registered) = (pending_reply.id(), pending_reply.registered());
        let Some(producer) = route.topic.producer(request.key()) else {
            return Err(pending_reply.cancel(GatewayError::NotReady));
        };
        let (mut headers, key) = request.into_parts();
        route.address.add_to(&mut headers, id, timeout);
        let record = make_record(id, headers, key, content, context);
        if !producer.try_send(record, id, pending_reply.deadline()) {
            return Err(pending_reply.cancel(GatewayError::Full));
        }
        let outcome = pending_reply.outcome().await;
        debug!(%id, x_request_id = context.request_id(), error = outcome.as_ref().err().map(field::debug), "outcome");
        if outcome.is_ok() {
            route.metrics.latency.observe(registered.elapsed().as_secs_f64());
        }
        Ok((id, outcome?))
    }

    fn check_admission(&self, route: &RouteService, timeout: Duration) -> Result<(), GatewayError> {
        self.in_flight.check_admission(route.index, timeout)?;
        if route.topic.is_known() {
            Ok(())
        } else {
            Err(GatewayError::NotReady)
        }
    }

    /// Before the record is sent: the reply may arrive before the producer returns.
    fn register(
        &self,
        route: &RouteService,
        timeout: Duration,
        context: &RequestContext,
    ) -> Result<PendingReply, GatewayError> {
        let pending_reply = self.in_flight.register(route.index, timeout)?;
        debug!(
            id = %pending_reply.id(),
            route = route.route.on,
            traceparent = context.traceparent(),
            tracestate = context.tracestate(),
            x_request_id = context.request_id(),
            "request"
        );
        Ok(pending_reply)
    }

    fn http_reply(&self, route: &RouteService, Reply { record, partition }: &Reply) -> Result<Response, GatewayError> {
        let reply = HttpReply::from_record(record, &route.route).map_err(|BadStatus| {
            let topic = route.route.reply_topic.as_deref().unwrap_or_default();
            let (offset, headers) = (record.offset(), record.headers());
            self.unusable
                .log(Unusable::InvalidStatus, topic, *partition, offset, headers);
            GatewayError::BadReply
        })?;
        self.metrics.headers_dropped.inc_by(reply.dropped);
        Ok(response::http_reply(reply))
    }
}

/// The record of a request with this correlation id. `headers` are those of its head and of its reply address; without a key
/// of its own it has the id.
pub(crate) fn make_record(
    id: Uuid,
    mut headers: HeaderBuf,
    key: Option<Vec<u8>>,
    content: Content,
    context: &RequestContext,
) -> Record {
    context.add_trace(&mut headers);
    match content {
        Content::Ping(body) => body.into_record(id, headers),
        Content::Http(value) => {
            if let Some(request_id) = context.request_id() {
                headers.push(http::REQUEST_ID, request_id.as_bytes());
            }
            let key = key.unwrap_or_else(|| id.to_string().into_bytes());
            Record {
                headers,
                ..Record::new(key, value)
            }
        }
    }
}

// === impl Request ===

impl Request {
    fn parse(&self, body: Vec<u8>) -> Result<Content, GatewayError> {
        match self {
            Self::Ping(_) => PingBody::from_json(&body).map(Content::Ping),
            Self::Http(_) => Ok(Content::Http(body)),
        }
    }

    /// For how long the caller prefers to wait.
    fn wait(&self) -> Option<Duration> {
        match self {
            Self::Ping(_) => None,
            Self::Http(request) => request.wait,
        }
    }

    /// The headers that the record has of the head, and its key, if that is not the correlation id.
    fn into_parts(self) -> (HeaderBuf, Option<Vec<u8>>) {
        match self {
            Self::Ping(_) => (HeaderBuf::new(), None),
            Self::Http(request) => (request.headers, request.key),
        }
    }

    /// The key of the record, if it is not the correlation id.
    fn key(&self) -> Option<&[u8]> {
        match self {
            Self::Ping(_) => None,
            Self::Http(request) => request.key.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests;
