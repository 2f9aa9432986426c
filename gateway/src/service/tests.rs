use std::{
    convert::Infallible,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use hyper::body::Frame;
use kafka::{Cluster, ProducerMetrics, ProducerSettings, Security};
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use shared::headers::Dialect;

use super::*;
use crate::ReplyPartition;

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
fn service(max_in_flight: usize, producer_bytes: usize) -> GatewayService {
    let mut registry = Registry::default();
    let metrics = RequestMetrics::register(&mut registry);
    let reply_timeout = Duration::from_secs(10);
    let in_flight = InFlight::new(
        max_in_flight,
        reply_timeout,
        Gauge::default(),
        metrics.abandoned.clone(),
    );
    in_flight.ready();
    let producer = Producer::new(
        ProducerSettings {
            connections: 1,
            max_bytes: producer_bytes,
            delivery_timeout: Duration::ZERO,
            in_flight: None,
        },
        in_flight.clone(),
        None,
        ProducerMetrics::register(&mut registry),
    );
    let cluster = Arc::new(Cluster::new("gateway", Vec::new(), Security::default(), Vec::new()));
    let reply_partition = ReplyPartition::Fixed(0);
    let reply_address = ReplyAddress::new(&cluster, "pong", reply_partition, None, Dialect::Common, reply_timeout);
    GatewayService {
        in_flight,
        producer,
        reply_address: Arc::new(reply_address),
        metrics,
        body_reader: Arc::new(BodyReader::new(1024, Duration::from_secs(10))),
    }
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test(start_paused = true)]
async fn refused_post_is_answered_before_its_body_arrives() {
    let full = service(1, 1024);
    let _pending_reply = full.in_flight.register().unwrap();
    let no_worker = service(1, 1024);
    no_worker.in_flight.set_no_worker(true);
    let shutting_down = service(1, 1024);
    shutting_down.in_flight.shut_down();
    for (service, error) in [
        (full, GatewayError::Full),
        (no_worker, GatewayError::NoWorker),
        (shutting_down, GatewayError::ShuttingDown),
    ] {
        let context = RequestContext::default();
        let call = pin!(service.call(Route::PostPing, endless_body(), &context));
        assert_eq!(poll_once(call), Poll::Ready(Err(error)));
    }
}

#[tokio::test(start_paused = true)]
async fn slow_body_is_not_in_flight() {
    let service = service(1, 1024);
    let context = RequestContext::default();
    let mut post = pin!(service.call(Route::PostPing, slow_body(), &context));
    assert!(poll_once(post.as_mut()).is_pending());
    assert_eq!(service.in_flight.counts(), (0, 0));
    // Its body is there at the next poll.
    assert!(poll_once(post.as_mut()).is_pending());
    assert_eq!(service.in_flight.counts().0, 1);
}

#[tokio::test(start_paused = true)]
async fn admission_is_decided_again_after_the_body() {
    let service = service(1, 1024);
    let context = RequestContext::default();
    let mut post = pin!(service.call(Route::PostPing, slow_body(), &context));
    assert!(poll_once(post.as_mut()).is_pending());
    let mut get = pin!(service.call(Route::GetPing, endless_body(), &context));
    assert!(poll_once(get.as_mut()).is_pending());
    assert_eq!(poll_once(post), Poll::Ready(Err(GatewayError::Full)));
}

#[tokio::test(start_paused = true)]
async fn full_producer_refuses_the_request() {
    let service = service(2, 1);
    let context = RequestContext::default();
    // An empty producer takes a record of any size.
    let mut first = pin!(service.call(Route::GetPing, endless_body(), &context));
    assert!(poll_once(first.as_mut()).is_pending());
    let second = pin!(service.call(Route::GetPing, endless_body(), &context));
    assert_eq!(poll_once(second), Poll::Ready(Err(GatewayError::Full)));
    assert_eq!(service.in_flight.counts(), (1, 1));
    assert_eq!(service.metrics.abandoned.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn request_without_a_reply_times_out() {
    let service = service(1, 1024);
    let context = RequestContext::default();
    let outcome = service.call(Route::GetPing, endless_body(), &context).await;
    assert_eq!(outcome, Err(GatewayError::TimedOut));
    assert_eq!(service.in_flight.counts(), (0, 0));
}
