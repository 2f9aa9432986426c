use std::{
    convert::Infallible,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use hyper::body::Frame;
use kafka::{Cluster, ProducerMetrics, Security};
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use shared::{config::Partitions, headers::Dialect, readiness::Readiness, tasks::Tasks};

use super::*;
use crate::{admission::RouteLimits, routes::testing};

const BODY: &str = r#"{"name":"Ping","value":"Pong"}"#;

/// A body that arrives at the second poll, or never.
struct SlowBody(Option<&'static str>, bool);

impl Body for SlowBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let was_polled = std::mem::replace(&mut self.1, true);
        match self.0 {
            Some(_) if was_polled => {}
            Some(_) | None => return Poll::Pending,
        }
        let text = self.0.replace("").filter(|text| !text.is_empty());
        Poll::Ready(text.map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes())))))
    }
}

fn slow_body() -> SlowBody {
    SlowBody(Some(BODY), false)
}

fn endless_body() -> SlowBody {
    SlowBody(None, false)
}

/// A ready gateway without a Kafka cluster: records stay in the producer.
async fn service(max_in_flight: usize) -> GatewayService {
    service_of(max_in_flight, "on = 'GET, POST /ping'\ncontract = 'ping'").await
}

async fn service_of(max_in_flight: usize, keys: &str) -> GatewayService {
    let mut registry = Registry::default();
    let metrics = RequestMetrics::register(&mut registry);
    let route = testing::route(keys);
    let route_metrics = metrics.route(&route);
    let limits = RouteLimits {
        timeout: route.timeout,
        max_in_flight: route.max_in_flight,
        topic: route.reply_topic.is_some().then_some(0),
    };
    let gauges = vec![route_metrics.gauges.clone()];
    let in_flight = InFlight::new(max_in_flight, &[limits], Gauge::default(), gauges);
    in_flight.ready(0);
    let topic = Arc::new(RequestTopic::new(
        &route.topic,
        Partitions::Listed([0].into()),
        (true, false),
        in_flight.clone(),
        Readiness::default().health_check("topic"),
        ProducerMetrics::register(&mut registry),
    ));
    let cluster = Arc::new(Cluster::new("gateway", Vec::new(), Security::default(), Vec::new()));
    let mut discovery = Box::pin(Arc::clone(&topic).follow_partitions(cluster, Tasks::default()));
    assert!(poll_once(discovery.as_mut()).is_pending());
    GatewayService {
        router: Router::default(),
        routes: vec![RouteService {
            index: 0,
            address: AddressHeaders::new(None, Dialect::Common, "id".into(), route.timeout),
            topic,
            metrics: route_metrics,
            route,
        }],
        in_flight,
        metrics,
        body_reader: Arc::new(BodyReader::new(Duration::from_secs(10))),
        unusable: UnusableReplies::default(),
    }
}

impl GatewayService {
    async fn ping(
        &self,
        request: PingRequest,
        body: SlowBody,
        context: &RequestContext,
    ) -> Result<Vec<u8>, GatewayError> {
        let (_, reply) = self
            .call(&self.routes[0], Request::Ping(request), body, context)
            .await?;
        let reply = reply.expect("the route has replies");
        Ok(reply.record.value().unwrap_or_default().to_vec())
    }
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test(start_paused = true)]
async fn refused_post_is_answered_before_its_body_arrives() {
    let full = service(1).await;
    let _pending_reply = full.in_flight.register(0, Duration::from_secs(10)).unwrap();
    let no_worker = service(1).await;
    no_worker.in_flight.set_no_worker(0, true);
    let shutting_down = service(1).await;
    shutting_down.in_flight.shut_down();
    for (service, error) in [
        (full, GatewayError::Full),
        (no_worker, GatewayError::NoWorker),
        (shutting_down, GatewayError::ShuttingDown),
    ] {
        let context = RequestContext::default();
        let call = pin!(service.ping(PingRequest::Post, endless_body(), &context));
        assert_eq!(poll_once(call), Poll::Ready(Err(error)));
    }
}

#[tokio::test(start_paused = true)]
async fn slow_body_is_not_in_flight() {
    let service = service(1).await;
    let context = RequestContext::default();
    let mut post = pin!(service.ping(PingRequest::Post, slow_body(), &context));
    assert!(poll_once(post.as_mut()).is_pending());
    assert_eq!(service.in_flight.counts(), (0, 0));
    // Its body is there at the next poll.
    assert!(poll_once(post.as_mut()).is_pending());
    assert_eq!(service.in_flight.counts().0, 1);
}

#[tokio::test(start_paused = true)]
async fn admission_is_decided_again_after_the_body() {
    let service = service(1).await;
    let context = RequestContext::default();
    let mut post = pin!(service.ping(PingRequest::Post, slow_body(), &context));
    assert!(poll_once(post.as_mut()).is_pending());
    let mut get = pin!(service.ping(PingRequest::Get, endless_body(), &context));
    assert!(poll_once(get.as_mut()).is_pending());
    assert_eq!(poll_once(post), Poll::Ready(Err(GatewayError::Full)));
}

#[tokio::test(start_paused = true)]
async fn full_producer_refuses_the_request() {
    let service = service_of(100, "on = 'POST /a'\nmax_body = '512KiB'\nreply = false").await;
    let context = RequestContext::default();
    let route = &service.routes[0];
    let body = || http_body_util::Full::new(Bytes::from(vec![0; 512 << 10]));
    let request = || {
        Request::Http(Box::new(HttpRequest {
            headers: HeaderBuf::new(),
            key: None,
            wait: None,
        }))
    };
    let mut waiting = Vec::new();
    let refused = loop {
        let mut call = Box::pin(service.call(route, request(), body(), &context));
        match poll_once(call.as_mut()) {
            Poll::Pending => waiting.push(call),
            Poll::Ready(outcome) => break outcome,
        }
    };
    assert_eq!(refused.unwrap_err(), GatewayError::Full);
    assert_eq!(waiting.len(), 31, "half a megabyte each, less than 16 MiB together");
    assert_eq!(service.in_flight.counts(), (31, 31));
    assert_eq!(route.metrics.gauges.abandoned.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn time_of_the_caller_shortens_the_timeout() {
    let service = service_of(1, "on = 'POST /a'").await;
    let context = RequestContext::default();
    let request = HttpRequest {
        headers: HeaderBuf::new(),
        key: None,
        wait: Some(Duration::from_secs(2)),
    };
    let start = tokio::time::Instant::now();
    let response = service
        .respond_by(
            &service.routes[0],
            Ok(Request::Http(Box::new(request))),
            http_body_util::Full::default(),
            &context,
        )
        .await;
    assert_eq!(response.status(), 504);
    assert_eq!(response.headers()["preference-applied"], "wait=2");
    assert_eq!(start.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn request_without_a_reply_times_out() {
    let service = service(1).await;
    let context = RequestContext::default();
    let outcome = service.ping(PingRequest::Get, endless_body(), &context).await;
    assert_eq!(outcome, Err(GatewayError::TimedOut));
    assert_eq!(service.in_flight.counts(), (0, 0));
}
