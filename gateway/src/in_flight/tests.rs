use std::{collections::VecDeque, time::Duration};

use kafka::Record;
use tokio::time::advance;

use super::*;

mod model;

const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

fn limits() -> [RouteLimits; 1] {
    let timeout = REPLY_TIMEOUT;
    [RouteLimits {
        timeout,
        max_in_flight: usize::MAX,
        topic: Some(0),
    }]
}

fn ok(value: impl Into<Vec<u8>>) -> Outcome {
    let record = Record {
        timestamp_ms: 0,
        ..Record::new(Vec::new(), value.into())
    };
    Ok(Some(Reply {
        record: record.into(),
        partition: 0,
    }))
}

fn value(outcome: Outcome) -> Vec<u8> {
    outcome.unwrap().unwrap().record.value().unwrap().to_vec()
}

fn table(max_in_flight: usize) -> InFlight {
    let in_flight = InFlight::new(max_in_flight, &limits(), Gauge::default(), vec![RouteGauges::default()]);
    in_flight.ready(0);
    in_flight
}

fn reply(in_flight: &InFlight, id: Uuid, value: &str) -> ReplyMatch {
    reply_all(in_flight, vec![(id, ok(value))])[0]
}

fn reply_all(in_flight: &InFlight, replies: Vec<(Uuid, Outcome)>) -> Vec<ReplyMatch> {
    let matches = in_flight.reply(replies).into_iter();
    matches.map(|(reply_match, _)| reply_match).collect()
}

impl InFlight {
    /// The number of entries, and the gauge.
    pub(crate) fn counts(&self) -> (usize, i64) {
        (self.shared.state.lock().entries.len(), self.shared.in_flight.get())
    }
}

#[tokio::test]
async fn each_request_gets_its_own_reply() {
    let in_flight = table(100);
    let pending: Vec<_> = (0..100)
        .map(|_| in_flight.register(0, REPLY_TIMEOUT).unwrap())
        .collect();
    let text = |id: Uuid| id.to_string().into_bytes();
    let ids = pending.iter().rev().map(PendingReply::id);
    let matches = reply_all(&in_flight, ids.map(|id| (id, ok(text(id)))).collect());
    assert_eq!(matches, [ReplyMatch::Delivered; 100]);
    for pending_reply in pending {
        let id = pending_reply.id();
        assert_eq!(value(pending_reply.outcome().await), text(id));
    }
    assert_eq!(in_flight.counts(), (0, 0));
}

#[tokio::test]
async fn a_reply_before_the_first_poll_is_delivered() {
    let in_flight = table(1);
    let pending_reply = in_flight.register(0, REPLY_TIMEOUT).unwrap();
    reply(&in_flight, pending_reply.id(), "early");
    assert_eq!(value(pending_reply.outcome().await), b"early");
}

#[tokio::test]
async fn a_reply_wakes_the_waiting_task() {
    let in_flight = table(1);
    let pending_reply = in_flight.register(0, REPLY_TIMEOUT).unwrap();
    let id = pending_reply.id();
    let waiting = tokio::spawn(pending_reply.outcome());
    tokio::task::yield_now().await;
    assert_eq!(reply(&in_flight, id, "value"), ReplyMatch::Delivered);
    assert_eq!(value(waiting.await.unwrap()), b"value");
}

#[tokio::test]
async fn second_reply_is_duplicate() {
    let in_flight = table(1);
    let pending_reply = in_flight.register(0, REPLY_TIMEOUT).unwrap();
    let id = pending_reply.id();
    let batch = ["first", "second"].map(|value| (id, ok(value)));
    assert_eq!(
        reply_all(&in_flight, batch.into()),
        [ReplyMatch::Delivered, ReplyMatch::Duplicate]
    );
    assert_eq!(value(pending_reply.outcome().await), b"first");
    assert_eq!(reply(&in_flight, id, "third"), ReplyMatch::Duplicate);
    assert_eq!(reply(&in_flight, Uuid::new_v4(), "other"), ReplyMatch::Foreign);
}

#[tokio::test(start_paused = true)]
async fn reply_after_an_error_is_late_and_after_a_disconnect_cancelled() {
    let in_flight = table(3);
    let [timed_out, left, failed] = [(); 3].map(|()| in_flight.register(0, REPLY_TIMEOUT).unwrap());
    let ids = [timed_out.id(), left.id(), failed.id()];
    drop(left);
    in_flight.fail(&[failed.id()], GatewayError::SendFailed);
    assert_eq!(reply(&in_flight, ids[2], "before the caller is told"), ReplyMatch::Late);
    assert_eq!(failed.outcome().await, Err(GatewayError::SendFailed));
    assert_eq!(timed_out.outcome().await, Err(GatewayError::TimedOut));
    let matches = reply_all(&in_flight, ids.map(|id| (id, ok(""))).into());
    assert_eq!(matches, [ReplyMatch::Late, ReplyMatch::Cancelled, ReplyMatch::Late]);
}

#[tokio::test(start_paused = true)]
async fn request_times_out_after_the_reply_timeout() {
    let in_flight = table(1);
    let start = Instant::now();
    let pending_reply = in_flight.register(0, REPLY_TIMEOUT).unwrap();
    // The timeout starts at the registration, not at the first poll.
    advance(Duration::from_secs(4)).await;
    assert_eq!(pending_reply.outcome().await, Err(GatewayError::TimedOut));
    let waited = start.elapsed().as_millis();
    assert!((10_000..=10_002).contains(&waited), "{waited} ms");
    assert_eq!(in_flight.counts(), (0, 0));
    assert_eq!(in_flight.shared.gauges[0].abandoned.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn reply_before_the_deadline_is_delivered_after_it() {
    let in_flight = table(1);
    let pending_reply = in_flight.register(0, REPLY_TIMEOUT).unwrap();
    let id = pending_reply.id();
    advance(REPLY_TIMEOUT - Duration::from_millis(1)).await;
    reply(&in_flight, id, "in time");
    advance(Duration::from_secs(1)).await;
    assert_eq!(value(pending_reply.outcome().await), b"in time");
}

#[tokio::test]
async fn failed_delivery_fails_the_request_and_unknown_delivery_does_not() {
    let in_flight = table(2);
    let [failed, unknown] = [(); 2].map(|()| in_flight.register(0, REPLY_TIMEOUT).unwrap());
    in_flight.on_delivery(vec![failed.id()], DeliveryResult::NotSent);
    in_flight.on_delivery(vec![unknown.id()], DeliveryResult::Unknown);
    in_flight.on_delivery(vec![unknown.id()], DeliveryResult::Acknowledged);
    assert_eq!(failed.outcome().await, Err(GatewayError::SendFailed));
    assert_eq!(reply(&in_flight, unknown.id(), "reply"), ReplyMatch::Delivered);
    assert_eq!(value(unknown.outcome().await), b"reply");
}

#[test]
fn requests_are_refused_before_ready() {
    let in_flight = InFlight::new(1, &limits(), Gauge::default(), vec![RouteGauges::default()]);
    assert_eq!(in_flight.check_admission(0, REPLY_TIMEOUT), Err(GatewayError::NotReady));
    assert_eq!(
        in_flight.register(0, REPLY_TIMEOUT).unwrap_err(),
        GatewayError::NotReady
    );
    in_flight.ready(0);
    assert_eq!(in_flight.check_admission(0, REPLY_TIMEOUT), Ok(()));
    drop(in_flight.register(0, REPLY_TIMEOUT).unwrap());
}

#[test]
fn requests_are_refused_without_a_worker() {
    let in_flight = table(1);
    in_flight.set_no_worker(0, true);
    assert_eq!(in_flight.check_admission(0, REPLY_TIMEOUT), Err(GatewayError::NoWorker));
    assert_eq!(
        in_flight.register(0, REPLY_TIMEOUT).unwrap_err(),
        GatewayError::NoWorker
    );
    in_flight.set_no_worker(0, false);
    drop(in_flight.register(0, REPLY_TIMEOUT).unwrap());
}

#[test]
fn check_admission_takes_no_place() {
    let in_flight = table(1);
    for _ in 0..3 {
        assert_eq!(in_flight.check_admission(0, REPLY_TIMEOUT), Ok(()));
    }
    assert_eq!(in_flight.counts(), (0, 0));
    let _pending_reply = in_flight.register(0, REPLY_TIMEOUT).unwrap();
    assert_eq!(in_flight.check_admission(0, REPLY_TIMEOUT), Err(GatewayError::Full));
}

#[test]
fn every_way_out_frees_the_place() {
    let in_flight = table(2);
    let [a, b] = [(); 2].map(|()| in_flight.register(0, REPLY_TIMEOUT).unwrap());
    assert_eq!(in_flight.register(0, REPLY_TIMEOUT).unwrap_err(), GatewayError::Full);
    drop(a);
    let c = in_flight.register(0, REPLY_TIMEOUT).unwrap();
    reply(&in_flight, c.id(), "delivered");
    assert_eq!(
        in_flight.register(0, REPLY_TIMEOUT).unwrap_err(),
        GatewayError::Full,
        "the guard exists"
    );
    drop(c);
    drop(b);
    assert_eq!(in_flight.counts(), (0, 0));
    assert_eq!(in_flight.shared.gauges[0].abandoned.get(), 2, "c had its outcome");
}

#[test]
fn cancelled_request_is_not_counted_as_abandoned() {
    let in_flight = table(1);
    let error = in_flight.register(0, REPLY_TIMEOUT).unwrap().cancel(GatewayError::Full);
    assert_eq!(error, GatewayError::Full);
    assert_eq!(in_flight.counts(), (0, 0));
    assert_eq!(in_flight.shared.gauges[0].abandoned.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn cancelled_probe_is_returned() {
    let in_flight = table(1);
    in_flight.set_no_worker(0, true);
    // Refused until a probe is due.
    while let Err(error) = in_flight.check_admission(0, REPLY_TIMEOUT) {
        assert_eq!(error, GatewayError::NoWorker);
        advance(Duration::from_secs(1)).await;
    }
    in_flight.register(0, REPLY_TIMEOUT).unwrap().cancel(GatewayError::Full);
    drop(in_flight.register(0, REPLY_TIMEOUT).unwrap());
    assert_eq!(
        in_flight.register(0, REPLY_TIMEOUT).unwrap_err(),
        GatewayError::NoWorker
    );
}

#[tokio::test(start_paused = true)]
async fn slow_replies_refuse_requests_as_overloaded() {
    let in_flight = table(10_000);
    let register = || in_flight.register(0, REPLY_TIMEOUT).unwrap();
    let mut pending: VecDeque<_> = (0..1_000).map(|_| register()).collect();
    // 100 replies/s, each with a higher latency.
    while pending.len() > 500 {
        advance(Duration::from_millis(10)).await;
        let pending_reply = pending.pop_front().unwrap();
        reply(&in_flight, pending_reply.id(), "slow");
    }
    // The limit is 100/s in 10 s, less a fifth: about 800.
    pending.extend((0..290).map(|_| register()));
    let refused = (0..20).find_map(|_| {
        let registered = in_flight.register(0, REPLY_TIMEOUT);
        registered.map(|pending_reply| pending.push_back(pending_reply)).err()
    });
    assert_eq!(refused, Some(GatewayError::Overloaded));
}

#[tokio::test]
async fn shutdown_fails_requests_without_a_reply() {
    let in_flight = table(3);
    let [a, b] = [(); 2].map(|()| in_flight.register(0, REPLY_TIMEOUT).unwrap());
    reply(&in_flight, a.id(), "done");
    in_flight.shut_down();
    assert_eq!(value(a.outcome().await), b"done");
    assert_eq!(b.outcome().await, Err(GatewayError::DrainEnded));
    assert_eq!(
        in_flight.register(0, REPLY_TIMEOUT).unwrap_err(),
        GatewayError::ShuttingDown
    );
}

/// Route 0 has replies, route 1 has none.
fn with_unreplied_route() -> InFlight {
    let limits = |topic| RouteLimits {
        timeout: REPLY_TIMEOUT,
        max_in_flight: usize::MAX,
        topic,
    };
    let in_flight = InFlight::new(
        10,
        &[limits(Some(0)), limits(None)],
        Gauge::default(),
        vec![RouteGauges::default(); 2],
    );
    in_flight.ready(0);
    in_flight
}

#[tokio::test]
async fn acknowledgement_is_the_outcome_of_a_route_without_replies_only() {
    let in_flight = with_unreplied_route();
    let replied = in_flight.register(0, REPLY_TIMEOUT).unwrap();
    let [stored, lost, refused] = [(); 3].map(|()| in_flight.register(1, REPLY_TIMEOUT).unwrap());
    assert_eq!(reply(&in_flight, stored.id(), "unasked"), ReplyMatch::Foreign);
    in_flight.on_delivery(vec![replied.id(), stored.id()], DeliveryResult::Acknowledged);
    in_flight.on_delivery(vec![replied.id(), lost.id()], DeliveryResult::Unknown);
    in_flight.on_delivery(vec![refused.id()], DeliveryResult::Refused);
    let id = stored.id();
    assert_eq!(
        stored.outcome().await,
        Ok(None),
        "a service may answer without being asked"
    );
    assert_eq!(reply(&in_flight, id, "unasked"), ReplyMatch::Foreign);
    assert_eq!(lost.outcome().await, Err(GatewayError::TimedOut));
    assert_eq!(refused.outcome().await, Err(GatewayError::RecordRefused));
    reply(&in_flight, replied.id(), "value");
    assert_eq!(value(replied.outcome().await), b"value");
    assert_eq!(in_flight.counts(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn reply_after_the_shortened_time_of_a_caller_is_late_and_no_sign_of_a_queue() {
    let in_flight = table(100_000);
    let fast = in_flight.register(0, REPLY_TIMEOUT).unwrap();
    reply(&in_flight, fast.id(), "fast");
    drop(fast);
    for _ in 0..300 {
        let short = in_flight.register(0, Duration::from_millis(10)).unwrap();
        let id = short.id();
        assert_eq!(short.outcome().await, Err(GatewayError::TimedOut));
        assert_eq!(reply(&in_flight, id, "late"), ReplyMatch::Late);
    }
    let waiting: Vec<_> = (0..5_000).map(|_| in_flight.register(0, REPLY_TIMEOUT)).collect();
    assert!(waiting.iter().all(Result::is_ok));
}
