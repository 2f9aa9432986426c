//! What the gateway counts. The counters of the hot path are looked up once, at the start.

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

use crate::answers::Refusal;

/// Counters of the front.
#[derive(Debug)]
pub(crate) struct FrontMetrics {
    requests: Family<Request, Counter>,
    answered: Counter,
    pub(crate) abandoned: Counter,
    pub(crate) in_flight: Gauge,
    /// From the registration of a caller to the reply, in seconds.
    pub(crate) latency: Histogram,
}

/// Replies by what they found.
#[derive(Debug, Clone)]
pub(crate) struct ReplyMetrics {
    pub(crate) answered: Counter,
    pub(crate) late: Counter,
    pub(crate) duplicate: Counter,
    pub(crate) foreign: Counter,
    pub(crate) malformed: Counter,
    pub(crate) announcement: Counter,
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

// === impl FrontMetrics ===

impl FrontMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let requests = Family::<Request, Counter>::default();
        let of = |outcome, status| requests.get_or_create_owned(&Request { outcome, status });
        let metrics = Self {
            answered: of("answered", 200),
            // 499 is the customary status of a client that closed its request.
            abandoned: of("client_gone", 499),
            in_flight: Gauge::default(),
            latency: Histogram::new(latency_buckets()),
            requests,
        };
        // A counter that appears only when it counts is no zero before.
        for refusal in Refusal::ALL {
            drop(metrics.requests.get_or_create(&Request::refused(refusal)));
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

    pub(crate) fn refused(&self, refusal: Refusal) {
        self.requests.get_or_create(&Request::refused(refusal)).inc();
    }
}

// === impl Request ===

impl Request {
    fn refused(refusal: Refusal) -> Self {
        let (status, _) = refusal.status();
        Self {
            outcome: outcome(refusal),
            status: status.as_u16(),
        }
    }
}

/// The outcome's name in the metrics.
fn outcome(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NotFound => "not_found",
        Refusal::MethodNotAllowed => "method_not_allowed",
        Refusal::UnsupportedMediaType => "unsupported_media_type",
        Refusal::BodyTooLarge => "body_too_large",
        Refusal::BodyTooSlow => "body_too_slow",
        Refusal::BadBody => "bad_body",
        Refusal::BadJson => "bad_json",
        Refusal::NotReady => "not_ready",
        Refusal::NoWorker => "no_worker",
        Refusal::Full => "full",
        Refusal::Overloaded => "overloaded",
        Refusal::TooManyConnections => "too_many_connections",
        Refusal::ShuttingDown => "shutting_down",
        Refusal::SendFailed => "send_failed",
        Refusal::ServiceFailed => "service_failed",
        Refusal::TimedOut => "timeout",
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
            announcement: of("announcement"),
        };
        registry.register("replies", "Records read from the reply topic, by kind", replies);
        metrics
    }
}
