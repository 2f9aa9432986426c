//! The metrics of the gateway. Counters of the hot path are looked up once, at the start.

use std::{fmt, sync::Arc};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::{
    in_flight::{ReplyMatch, RouteGauges},
    response::GatewayError,
    routes::{Contract, Route},
};

/// Metrics of HTTP requests.
#[derive(Debug)]
pub(crate) struct RequestMetrics {
    requests: Family<Request, Counter>,
    latency: Family<RouteLabels, Histogram>,
    route_in_flight: Family<RouteLabels, Gauge>,
    pub(crate) in_flight: Gauge,
    pub(crate) headers_dropped: Counter,
}

/// Metrics of the requests of one route.
#[derive(Debug)]
pub(crate) struct RouteMetrics {
    requests: Family<Request, Counter>,
    route: RouteLabel,
    contract: Contract,
    answered: Counter,
    /// From registration to reply, in seconds.
    pub(crate) latency: Histogram,
    pub(crate) gauges: RouteGauges,
}

/// The value of `on`; empty for requests without a route.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct RouteLabel(Arc<str>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: RouteLabel,
}

/// Counters of the records in the reply topic.
#[derive(Debug, Clone)]
pub(crate) struct ReplyMetrics {
    answered: Counter,
    late: Counter,
    duplicate: Counter,
    foreign: Counter,
    pub(crate) malformed: Counter,
    pub(crate) heartbeat: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    outcome: &'static str,
    status: u16,
    route: RouteLabel,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reply {
    kind: &'static str,
}

/// 100 µs to 13 s, doubling.
fn latency_buckets() -> impl Iterator<Item = f64> {
    exponential_buckets(0.0001, 2.0, 18)
}

// === impl RequestMetrics ===

impl RequestMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            latency: Family::new_with_constructor(|| Histogram::new(latency_buckets())),
            route_in_flight: Family::default(),
            in_flight: Gauge::default(),
            headers_dropped: Counter::default(),
        };
        for error in GatewayError::ALL.into_iter().filter(|error| is_without_route(*error)) {
            drop(
                metrics
                    .requests
                    .get_or_create(&Request::refused(error, Contract::Http, &RouteLabel::none())),
            );
        }
        registry.register("requests", "Requests by outcome", metrics.requests.clone());
        registry.register("in_flight", "Callers that wait for a reply", metrics.in_flight.clone());
        registry.register(
            "route_in_flight",
            "Callers that wait for a reply, by route",
            metrics.route_in_flight.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "From the registration of a caller to the reply",
            Unit::Seconds,
            metrics.latency.clone(),
        );
        registry.register(
            "reply_headers_dropped",
            "Headers of replies that cannot be headers of a response",
            metrics.headers_dropped.clone(),
        );
        metrics
    }

    /// The metrics of a route.
    pub(crate) fn route(&self, route: &Route) -> RouteMetrics {
        let label = RouteLabel(route.on.as_str().into());
        let labels = RouteLabels { route: label.clone() };
        let of = |outcome, status| {
            let route = label.clone();
            self.requests.get_or_create_owned(&Request { outcome, status, route })
        };
        let has_reply = route.reply_topic.is_some();
        let metrics = RouteMetrics {
            requests: self.requests.clone(),
            answered: of("answered", if has_reply { 200 } else { 202 }),
            latency: self.latency.get_or_create_owned(&labels),
            gauges: RouteGauges {
                in_flight: self.route_in_flight.get_or_create_owned(&labels),
                // nginx's status for a client that closed its request.
                abandoned: of("client_gone", 499),
            },
            contract: route.contract,
            route: label,
        };
        // A counter must be 0 before its first increment: Prometheus computes no rate from absence.
        for error in GatewayError::ALL.into_iter().filter(|error| !is_without_route(*error)) {
            drop(
                self.requests
                    .get_or_create(&Request::refused(error, route.contract, &metrics.route)),
            );
        }
        metrics
    }

    /// A request without a route was refused.
    pub(crate) fn refused(&self, error: GatewayError) {
        let request = Request::refused(error, Contract::Http, &RouteLabel::none());
        self.requests.get_or_create(&request).inc();
    }

    /// `OPTIONS` was answered by the gateway itself.
    pub(crate) fn answered_options(&self) {
        let (outcome, status, route) = ("options", 204, RouteLabel::none());
        self.requests.get_or_create(&Request { outcome, status, route }).inc();
    }
}

/// Errors of requests that have no route.
fn is_without_route(error: GatewayError) -> bool {
    matches!(
        error,
        GatewayError::InvalidHost
            | GatewayError::InvalidTarget
            | GatewayError::UnsupportedTransferCoding
            | GatewayError::NotFound
            | GatewayError::MethodNotAllowed
            | GatewayError::TooManyConnections
    )
}

// === impl RouteMetrics ===

impl RouteMetrics {
    pub(crate) fn answered(&self, status: u16) {
        if matches!(status, 200 | 202) {
            self.answered.inc();
            return;
        }
        let route = self.route.clone();
        let outcome = "answered";
        self.requests.get_or_create(&Request { outcome, status, route }).inc();
    }

    pub(crate) fn refused(&self, error: GatewayError) {
        let request = Request::refused(error, self.contract, &self.route);
        self.requests.get_or_create(&request).inc();
    }
}

// === impl RouteLabel ===

impl RouteLabel {
    fn none() -> Self {
        Self("".into())
    }
}

impl EncodeLabelValue for RouteLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        (&*self.0).encode(encoder)
    }
}

// === impl Request ===

impl Request {
    fn refused(error: GatewayError, contract: Contract, route: &RouteLabel) -> Self {
        let (status, _) = error.status(contract);
        Self {
            outcome: outcome(error),
            status: status.as_u16(),
            route: route.clone(),
        }
    }
}

/// The label `outcome`.
fn outcome(error: GatewayError) -> &'static str {
    match error {
        GatewayError::InvalidHost => "invalid_host",
        GatewayError::InvalidTarget => "invalid_target",
        GatewayError::UnsupportedTransferCoding => "unsupported_transfer_coding",
        GatewayError::NotFound => "not_found",
        GatewayError::MethodNotAllowed => "method_not_allowed",
        GatewayError::UriTooLong => "uri_too_long",
        GatewayError::HeadersTooLarge => "headers_too_large",
        GatewayError::UnsupportedEncoding => "unsupported_encoding",
        GatewayError::BadPath => "bad_path",
        GatewayError::BadContentType => "bad_content_type",
        GatewayError::MissingHeader(_) => "missing_header",
        GatewayError::RecordRefused => "record_refused",
        GatewayError::BadReply => "bad_status",
        GatewayError::UnsupportedMediaType => "unsupported_media_type",
        GatewayError::BodyTooLarge => "body_too_large",
        GatewayError::BodyTooSlow => "body_too_slow",
        GatewayError::BadBody => "bad_body",
        GatewayError::BadJson(_) => "bad_json",
        GatewayError::NotReady => "not_ready",
        GatewayError::NoWorker => "no_worker",
        GatewayError::Full => "full",
        GatewayError::Overloaded => "overloaded",
        GatewayError::TooManyConnections => "too_many_connections",
        GatewayError::ShuttingDown | GatewayError::DrainEnded => "shutting_down",
        GatewayError::SendFailed => "send_failed",
        GatewayError::ServiceFailed => "service_failed",
        GatewayError::TimedOut => "timeout",
    }
}

// === impl ReplyMetrics ===

impl ReplyMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let replies = Family::<Reply, Counter>::default();
        let of = |kind| replies.get_or_create_owned(&Reply { kind });
        let metrics = Self {
            answered: of("answered"),
            late: of("late"),
            duplicate: of("duplicate"),
            foreign: of("foreign"),
            malformed: of("malformed"),
            heartbeat: of("announcement"),
        };
        registry.register("replies", "Records read from the reply topic, by kind", replies);
        metrics
    }

    pub(crate) fn count(&self, reply_match: ReplyMatch) {
        let counter = match reply_match {
            ReplyMatch::Delivered => &self.answered,
            ReplyMatch::Duplicate => &self.duplicate,
            ReplyMatch::Late | ReplyMatch::Cancelled => &self.late,
            ReplyMatch::Foreign => &self.foreign,
        };
        counter.inc();
    }
}
