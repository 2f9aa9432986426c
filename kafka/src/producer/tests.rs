use std::{collections::VecDeque, time::Duration};

use parking_lot::Mutex;
use shared::readiness::Readiness;
use tokio::sync::mpsc;

use super::{connection::LINGER, *};
use crate::{
    error::Error,
    link::{End, FetchSize, LeaderClient, PRODUCE_LIMIT, SMALL_BATCH_BYTES},
    record::ConsumedRecord,
};

const NO_RETRY: Duration = Duration::ZERO;

const RETRY_FOREVER: Duration = Duration::MAX;

/// How a scripted broker answers a call. Calls beyond the script succeed.
#[derive(Debug)]
enum Outcome {
    Refuse,
    Fail,
    Hang,
    /// Succeeds when notified.
    Wait(Arc<Notify>),
}

#[derive(Debug, Clone, Default)]
struct Broker(Arc<Mutex<Script>>);

#[derive(Debug, Default)]
struct Script {
    connects: VecDeque<Outcome>,
    produces: VecDeque<Outcome>,
    connections: usize,
    /// The values of each batch it accepted.
    batches: Vec<Vec<Vec<u8>>>,
}

impl Outcome {
    async fn play(outcome: Option<Self>, limit: Duration) -> Result<(), Error> {
        match outcome {
            None => Ok(()),
            Some(Self::Refuse) => Err(Error::Refused("too large".into())),
            Some(Self::Fail) => Err(Error::Failed("connection refused".into())),
            Some(Self::Hang) => {
                tokio::time::sleep(limit).await;
                Err(Error::TimedOut(limit))
            }
            Some(Self::Wait(go)) => {
                go.notified().await;
                Ok(())
            }
        }
    }
}

impl Connector for Broker {
    type LeaderClient = Self;

    async fn connect(&self) -> Result<Self, Error> {
        let outcome = self.0.lock().connects.pop_front();
        Outcome::play(outcome, Duration::from_secs(1)).await?;
        self.0.lock().connections += 1;
        Ok(self.clone())
    }
}

impl LeaderClient for Broker {
    async fn produce(&self, records: Vec<Record>) -> Result<(), Error> {
        let outcome = self.0.lock().produces.pop_front();
        Outcome::play(outcome, PRODUCE_LIMIT).await?;
        self.0
            .lock()
            .batches
            .push(records.into_iter().map(|record| record.value).collect());
        Ok(())
    }

    async fn fetch(&self, _: i64, _: FetchSize) -> Result<(Vec<ConsumedRecord>, i64), Error> {
        unreachable!("a producer does not fetch")
    }

    async fn offset(&self, _: End) -> Result<i64, Error> {
        unreachable!("a producer looks up no offset")
    }
}

/// Forwards the results to a test.
#[derive(Debug)]
struct Deliveries(mpsc::Sender<(usize, DeliveryResult)>);

impl DeliveryCallback for Deliveries {
    type Token = usize;

    fn on_delivery(&self, tokens: Vec<usize>, result: DeliveryResult) {
        for token in tokens {
            self.0.try_send((token, result)).unwrap();
        }
    }
}

struct Fixture {
    broker: Broker,
    producer: Producer<Deliveries>,
    deliveries: mpsc::Receiver<(usize, DeliveryResult)>,
    in_flight: Gauge,
    readiness: Readiness,
    tasks: Tasks,
}

impl Fixture {
    fn new(delivery_timeout: Duration, connections: usize, connects: Vec<Outcome>, produces: Vec<Outcome>) -> Self {
        let broker = Broker::default();
        broker.0.lock().connects = connects.into();
        broker.0.lock().produces = produces.into();
        let (sender, deliveries) = mpsc::channel(10_000);
        let in_flight = Gauge::default();
        let readiness = Readiness::default();
        let tasks = Tasks::default();
        let settings = ProducerSettings {
            connections,
            max_bytes: 100 * SMALL_BATCH_BYTES,
            delivery_timeout,
            in_flight: Some(in_flight.clone()),
        };
        let producer = Producer::new(
            settings,
            Deliveries(sender),
            readiness.health_check("outbox"),
            ProducerMetrics::default(),
        );
        producer.add_connector(&tasks, broker.clone());
        Self {
            broker,
            producer,
            deliveries,
            in_flight,
            readiness,
            tasks,
        }
    }

    fn send(&self, token: usize) {
        let record = Record::new(Vec::new(), token.to_string().into_bytes());
        self.producer.try_send(record, token).unwrap();
    }

    async fn next_result(&mut self) -> (usize, DeliveryResult) {
        self.deliveries.recv().await.unwrap()
    }

    fn accepted(&self) -> Vec<Vec<String>> {
        let text = |value: &Vec<u8>| String::from_utf8(value.clone()).unwrap();
        let script = self.broker.0.lock();
        script
            .batches
            .iter()
            .map(|batch| batch.iter().map(text).collect())
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn records_sent_during_a_batch_go_with_the_next_batch() {
    let go = Arc::new(Notify::new());
    let mut fixture = Fixture::new(NO_RETRY, 2, vec![], vec![Outcome::Wait(Arc::clone(&go))]);
    fixture.send(1);
    tokio::time::sleep(Duration::from_millis(1)).await;
    fixture.send(2);
    fixture.send(3);
    go.notify_one();
    for token in 1..4 {
        assert_eq!(fixture.next_result().await, (token, DeliveryResult::Acknowledged));
    }
    assert_eq!(fixture.accepted(), [vec!["1"], vec!["2", "3"]]);
    assert_eq!(fixture.broker.0.lock().connections, 1, "one connection is enough");
}

#[tokio::test(start_paused = true)]
async fn linger_ends_at_the_batch_target() {
    let mut fixture = Fixture::new(NO_RETRY, 2, vec![], vec![]);
    fixture.in_flight.set(6);
    let start = Instant::now();
    for token in 1..4 {
        fixture.send(token);
        tokio::task::yield_now().await;
    }
    assert_eq!(fixture.next_result().await, (1, DeliveryResult::Acknowledged));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(fixture.accepted(), [["1", "2", "3"]]);
}

#[tokio::test]
async fn batch_target_is_half_of_the_requests_in_flight() {
    let fixture = Fixture::new(NO_RETRY, 1, vec![], vec![]);
    for (in_flight, batch_target) in [
        (0, 0),
        (3, 1),
        (4, 2),
        (1_000, 500),
        (1_024, 512),
        (16_384, 512),
        (-1, 0),
    ] {
        fixture.in_flight.set(in_flight);
        assert_eq!(
            fixture.producer.shared.batch_target(),
            batch_target,
            "{in_flight} in flight"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn linger_ends_after_its_time() {
    let mut fixture = Fixture::new(NO_RETRY, 2, vec![], vec![]);
    fixture.in_flight.set(6);
    let start = Instant::now();
    fixture.send(1);
    assert_eq!(fixture.next_result().await, (1, DeliveryResult::Acknowledged));
    assert!(start.elapsed() <= 2 * LINGER, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn close_ends_the_linger() {
    let fixture = Fixture::new(NO_RETRY, 2, vec![], vec![]);
    tokio::time::sleep(Duration::from_millis(1)).await;
    fixture.in_flight.set(6);
    let start = Instant::now();
    fixture.send(1);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(fixture.accepted().is_empty(), "the connection lingers");
    assert!(fixture.producer.close(Duration::from_secs(5)).await);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(fixture.accepted(), [["1"]]);
}

#[tokio::test(start_paused = true)]
async fn full_batches_open_connections_up_to_the_limit() {
    let go = Arc::new(Notify::new());
    let waits = (0..10).map(|_| Outcome::Wait(Arc::clone(&go))).collect();
    let fixture = Fixture::new(NO_RETRY, 3, vec![], waits);
    for token in 0..10_000 {
        fixture.send(token);
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(fixture.broker.0.lock().connections, 3);
}

#[tokio::test(start_paused = true)]
async fn failed_batch_is_reported_at_once_and_the_connection_replaced() {
    let mut fixture = Fixture::new(NO_RETRY, 1, vec![], vec![Outcome::Fail]);
    fixture.send(1);
    assert_eq!(fixture.next_result().await, (1, DeliveryResult::Failed));
    fixture.send(2);
    assert_eq!(fixture.next_result().await, (2, DeliveryResult::Acknowledged));
    assert_eq!(fixture.broker.0.lock().connections, 2);
}

#[tokio::test(start_paused = true)]
async fn produce_timeout_is_unknown_and_not_retried() {
    let mut fixture = Fixture::new(NO_RETRY, 1, vec![], vec![Outcome::Hang]);
    fixture.send(1);
    assert_eq!(fixture.next_result().await, (1, DeliveryResult::Unknown));
    fixture.send(2);
    assert_eq!(fixture.next_result().await, (2, DeliveryResult::Acknowledged));
    assert_eq!(fixture.accepted(), [["2"]]);
}

#[tokio::test(start_paused = true)]
async fn failed_connect_fails_queued_records_and_is_not_ready() {
    let mut fixture = Fixture::new(NO_RETRY, 1, vec![Outcome::Hang, Outcome::Fail, Outcome::Fail], vec![]);
    fixture.send(1);
    let start = Instant::now();
    assert_eq!(fixture.next_result().await, (1, DeliveryResult::Failed));
    assert!(start.elapsed() <= Duration::from_secs(1), "one attempt");
    assert_eq!(fixture.readiness.not_ready().len(), 1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(fixture.readiness.not_ready().is_empty());
    fixture.send(2);
    assert_eq!(fixture.next_result().await, (2, DeliveryResult::Acknowledged));
}

#[tokio::test(start_paused = true)]
async fn delivery_timeout_retries_in_order_through_any_failure() {
    let connects = vec![Outcome::Fail, Outcome::Hang];
    let mut fixture = Fixture::new(
        RETRY_FOREVER,
        1,
        connects,
        vec![Outcome::Fail, Outcome::Hang, Outcome::Fail],
    );
    for token in 0..5 {
        fixture.send(token);
    }
    for token in 0..5 {
        assert_eq!(fixture.next_result().await, (token, DeliveryResult::Acknowledged));
    }
    assert_eq!(fixture.accepted().concat(), ["0", "1", "2", "3", "4"]);
}

#[tokio::test(start_paused = true)]
async fn refused_batch_is_not_retried() {
    let mut fixture = Fixture::new(RETRY_FOREVER, 1, vec![], vec![Outcome::Refuse]);
    fixture.send(1);
    assert_eq!(fixture.next_result().await, (1, DeliveryResult::Failed));
    fixture.send(2);
    assert_eq!(fixture.next_result().await, (2, DeliveryResult::Acknowledged));
    assert_eq!(fixture.broker.0.lock().connections, 1, "the connection is good");
}

#[tokio::test(start_paused = true)]
async fn full_queue_rejects_try_send_and_delays_send() {
    let go = Arc::new(Notify::new());
    let mut fixture = Fixture::new(NO_RETRY, 1, vec![], vec![Outcome::Wait(Arc::clone(&go))]);
    fixture.send(0);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let record = || Record::new(Vec::new(), vec![b'x'; SMALL_BATCH_BYTES]);
    let mut fitting = 0;
    while fixture.producer.try_send(record(), 1).is_ok() {
        fitting += 1;
    }
    assert!((90..=100).contains(&fitting), "{fitting}");
    let late = fixture.producer.send(record(), 2, || false);
    let (sent, ()) = tokio::join!(late, async { go.notify_one() });
    sent.unwrap();
    let mut results = Vec::new();
    while results.len() < fitting + 2 {
        results.push(fixture.next_result().await);
    }
    assert!(
        results
            .iter()
            .all(|(_, result)| *result == DeliveryResult::Acknowledged)
    );
    assert_eq!(results.last(), Some(&(2, DeliveryResult::Acknowledged)));
}

#[tokio::test(start_paused = true)]
async fn close_sends_queued_records_and_rejects_new_ones() {
    let fixture = Fixture::new(NO_RETRY, 2, vec![], vec![Outcome::Hang]);
    fixture.send(1);
    tokio::time::sleep(Duration::from_millis(1)).await;
    fixture.send(2);
    assert!(fixture.producer.close(Duration::from_secs(5)).await);
    assert_eq!(fixture.accepted(), [["2"]]);
    assert!(
        fixture
            .producer
            .try_send(Record::new(Vec::new(), Vec::new()), 3)
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn close_sends_the_requeued_batch_of_a_connection_over_the_limit() {
    let go = Arc::new(Notify::new());
    let mut fixture = Fixture::new(
        RETRY_FOREVER,
        2,
        vec![],
        vec![Outcome::Wait(Arc::clone(&go)), Outcome::Hang],
    );
    let full_batch = |token| {
        fixture
            .producer
            .try_send(Record::new(Vec::new(), vec![b'x'; SMALL_BATCH_BYTES]), token)
    };
    full_batch(0).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    full_batch(1).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(fixture.broker.0.lock().connections, 2);
    fixture.producer.set_max_connections(1);

    let close = tokio::spawn({
        let producer = fixture.producer.clone();
        async move { producer.close(Duration::from_secs(60)).await }
    });
    go.notify_one();
    assert!(close.await.unwrap());
    assert_eq!(fixture.next_result().await, (0, DeliveryResult::Acknowledged));
    assert_eq!(fixture.next_result().await, (1, DeliveryResult::Acknowledged));
}

#[tokio::test(start_paused = true)]
async fn close_is_bounded() {
    let fixture = Fixture::new(RETRY_FOREVER, 1, vec![], (0..100).map(|_| Outcome::Hang).collect());
    fixture.send(1);
    let start = Instant::now();
    assert!(!fixture.producer.close(Duration::from_secs(3)).await);
    assert_eq!(start.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn close_ends_send_with_closed() {
    let fixture = Fixture::new(RETRY_FOREVER, 1, vec![], (0..100).map(|_| Outcome::Hang).collect());
    let record = || Record::new(Vec::new(), vec![b'x'; 100 * SMALL_BATCH_BYTES]);
    fixture.producer.try_send(record(), 1).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    fixture.producer.try_send(record(), 2).unwrap();
    let (sent, _) = tokio::join!(
        fixture.producer.send(record(), 3, || false),
        fixture.producer.close(Duration::from_secs(1))
    );
    assert!(matches!(sent, Err(SendError::Closed(_, 3))));
}

/// Connecting fails or hangs, or it succeeds and every batch fails or hangs.
#[tokio::test(start_paused = true)]
async fn unreachable_broker_ends_send_unless_it_keeps_waiting() {
    let many = |outcome: fn() -> Outcome| (0..60).map(|_| outcome()).collect::<Vec<_>>();
    let success = || {
        let go = Arc::new(Notify::new());
        go.notify_one();
        Outcome::Wait(go)
    };
    let connected = |outcomes: Vec<Outcome>| [success()].into_iter().chain(outcomes).collect::<Vec<_>>();
    for (connects, produces) in [
        (connected(many(|| Outcome::Fail)), vec![Outcome::Hang]),
        (connected(many(|| Outcome::Hang)), vec![Outcome::Hang]),
        (vec![], many(|| Outcome::Fail)),
        (vec![], many(|| Outcome::Hang)),
    ] {
        let script = format!("{connects:?} {produces:?}");
        let mut fixture = Fixture::new(RETRY_FOREVER, 1, connects, produces);
        let record = || Record::new(Vec::new(), vec![b'x'; 100 * SMALL_BATCH_BYTES]);
        let start = Instant::now();
        fixture.producer.try_send(record(), 1).unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        while fixture.producer.try_send(record(), 2).is_ok() {}

        let (unreachable, kept_waiting) = tokio::join!(
            async { (fixture.producer.send(record(), 3, || false).await, start.elapsed()) },
            fixture.producer.send(record(), 4, || true),
        );
        assert!(matches!(unreachable.0, Err(SendError::Unreachable(3))), "{script}");
        let most = PRODUCE_LIMIT + 2 * UNREACHABLE_AFTER;
        assert!(
            (UNREACHABLE_AFTER..most).contains(&unreachable.1),
            "{:?} {script}",
            unreachable.1
        );
        kept_waiting.unwrap();
        while fixture.next_result().await != (4, DeliveryResult::Acknowledged) {}
        assert!(fixture.producer.is_reachable());
    }
}

#[tokio::test(start_paused = true)]
async fn delivery_timeout_ends_the_retries() {
    let mut fixture = Fixture::new(
        Duration::from_secs(30),
        1,
        vec![],
        (0..100).map(|_| Outcome::Hang).collect(),
    );
    fixture.send(1);
    let start = Instant::now();
    assert_eq!(fixture.next_result().await, (1, DeliveryResult::Unknown));
    assert!(start.elapsed() >= Duration::from_secs(30), "{:?}", start.elapsed());
    assert!(start.elapsed() <= Duration::from_secs(36), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn abandon_fails_queued_records_and_ends_the_connections() {
    let mut fixture = Fixture::new(RETRY_FOREVER, 1, vec![], (0..100).map(|_| Outcome::Hang).collect());
    fixture.send(1);
    tokio::time::sleep(Duration::from_millis(1)).await;
    fixture.send(2);
    assert!(!fixture.producer.close(Duration::ZERO).await);
    fixture.producer.abandon();
    assert_eq!(fixture.next_result().await, (2, DeliveryResult::Failed));
    assert_eq!(fixture.next_result().await, (1, DeliveryResult::Unknown));
    assert!(fixture.producer.close(Duration::from_secs(10)).await);
}

#[tokio::test(start_paused = true)]
async fn batches_go_round_robin_over_the_partitions() {
    let mut fixture = Fixture::new(NO_RETRY, 4, vec![], vec![]);
    let other = Broker::default();
    fixture.producer.add_connector(&fixture.tasks, other.clone());
    tokio::time::sleep(Duration::from_millis(1)).await;
    for token in 0..10 {
        fixture.send(token);
        assert_eq!(fixture.next_result().await, (token, DeliveryResult::Acknowledged));
    }
    assert_eq!((fixture.accepted().len(), other.0.lock().batches.len()), (5, 5));
}
