//! The metrics of the gateway. Counters of the hot path are looked up once, at the start.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::{in_flight::ReplyMatch, response::GatewayError};

/// Metrics of HTTP requests.
#[derive(Debug)]
pub(crate) struct RequestMetrics {
    requests: Family<Request, Counter>,
    answered: Counter,
    pub(crate) abandoned: Counter,
    pub(crate) in_flight: Gauge,
    /// From registration to reply, in seconds.
    pub(crate) latency: Histogram,
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
        let requests = Family::<Request, Counter>::default();
        let of = |outcome, status| requests.get_or_create_owned(&Request { outcome, status });
        let metrics = Self {
            answered: of("answered", 200),
            // nginx's status for a client that closed its request.
            abandoned: of("client_gone", 499),
            in_flight: Gauge::default(),
            latency: Histogram::new(latency_buckets()),
            requests,
        };
        // A counter must be 0 before its first increment: Prometheus computes no rate from absence.
        for error in GatewayError::ALL {
            drop(metrics.requests.get_or_create(&Request::refused(error)));
        }
        registry.register("requests", "Requests by outcome", metrics.requests.clone());
        registry.register("in_flight", "Callers that wait for a reply", metrics.in_flight.clone());
        registry.register_with_unit(
            "request_duration",
            "From the registration of a caller to the reply",
            Unit::Seconds,
            metrics.latency.clone(),
        );
        metrics
    }

    pub(crate) fn answered(&self) {
        self.answered.inc();
    }

    pub(crate) fn refused(&self, error: GatewayError) {
        self.requests.get_or_create(&Request::refused(error)).inc();
    }
}

// === impl Request ===

impl Request {
    fn refused(error: GatewayError) -> Self {
        let (status, _) = error.status();
        Self {
            outcome: outcome(error),
            status: status.as_u16(),
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
        GatewayError::ShuttingDown => "shutting_down",
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
