use std::{collections::VecDeque, time::Duration};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use bytes::Bytes;
use shared::readiness::Readiness;

use super::{
    connection::{LINGER, PROBE_INTERVAL},
    *,
};
use crate::{
    cluster::Operation,
    error::{Error, Failure},
    leader::{End, FetchSize, Fetched, Isolation, LeaderClient, MAX_BATCH_BYTES, PRODUCE_TIMEOUT},
    record_batch::RecordBatches,
};

const NO_RETRY: Duration = Duration::ZERO;

const RETRY_FOREVER: Duration = Duration::MAX;

/// How a scripted broker answers a call. Calls beyond the script succeed.
#[derive(Debug)]
enum Outcome {
    /// Refuses the records for good.
    Refuse,
    /// Refuses the user.
    Deny,
    /// The broker is not the leader any more.
    Moved,
    /// The topic does not have the partition.
    Missing,
    /// The connection breaks.
    Fail,
    /// There is no connection.
    Unreachable,
    Hang,
    /// Succeeds when notified.
    Wait(Arc<Notify>),
    /// Succeeds, and wants no more for so long.
    Throttle(Duration),
}

#[derive(Debug, Clone)]
struct Broker {
    script: Arc<Mutex<Script>>,
    throttled_until: Option<Instant>,
}

#[derive(Debug, Default)]
struct Script {
    connects: VecDeque<Outcome>,
    produces: VecDeque<Outcome>,
    probes: VecDeque<Outcome>,
    connections: usize,
    probed: usize,
    /// The produce calls.
    produced: usize,
    /// The values of each batch it accepted.
    batches: Vec<Vec<Vec<u8>>>,
    /// The largest batch it accepts, in bytes.
    max_bytes: Option<usize>,
    /// A value that it refuses, and with it each batch that has it.
    refused: Option<Vec<u8>>,
}

impl Outcome {
    async fn play(outcome: Option<Self>, limit: Duration) -> Result<Option<Duration>, Error> {
        let broker = Arc::from("kafka:9092");
        match outcome {
            None => Ok(None),
            Some(Self::Refuse) => Err(refused()),
            Some(Self::Deny) => Err(Error::TopicDenied {
                topic: "ping".into(),
                operation: "Write",
                user: "user alice".into(),
                is_hidden: false,
            }),
            Some(Self::Moved) => Err(Error::NotLeader(broker)),
            Some(Self::Missing) => Err(Error::PartitionMissing {
                topic: "ping".into(),
                partition: 0,
            }),
            Some(Self::Fail) => {
                let failure = Failure::Disconnected {
                    text: "closed the connection".into(),
                    advice: "",
                };
                Err(Error::new(&broker, "Produce", failure))
            }
            Some(Self::Unreachable) => {
                let error = std::io::ErrorKind::ConnectionRefused.into();
                Err(Error::new(&broker, "connecting", Failure::Unreachable(error)))
            }
            Some(Self::Hang) => {
                tokio::time::sleep(limit).await;
                let is_first = false;
                Err(Error::new(&broker, "Produce", Failure::TimedOut { limit, is_first }))
            }
            Some(Self::Wait(go)) => {
                go.notified().await;
                Ok(None)
            }
            Some(Self::Throttle(time)) => Ok(Some(time)),
        }
    }
}

fn refused() -> Error {
    Error::Refused {
        broker: "kafka:9092".into(),
        code: kafka_protocol::error::ResponseError::InvalidRecord,
        message: None,
    }
}

impl Broker {
    fn new(script: Script) -> Self {
        Self {
            script: Arc::new(Mutex::new(script)),
            throttled_until: None,
        }
    }
}

impl Connector for Broker {
    type LeaderClient = Self;

    async fn connect(&self, operation: Operation) -> Result<Self, Error> {
        assert_eq!(operation, Operation::Write);
        let outcome = self.script.lock().connects.pop_front();
        Outcome::play(outcome, Duration::from_secs(1)).await?;
        self.script.lock().connections += 1;
        Ok(self.clone())
    }
}

impl LeaderClient for Broker {
    async fn produce(&mut self, batch: Bytes) -> Result<(), Error> {
        assert!(self.throttled_until().is_none(), "a throttled broker is left alone");
        let outcome = self.script.lock().produces.pop_front();
        let throttle = Outcome::play(outcome, PRODUCE_TIMEOUT).await?;
        self.throttled_until = throttle.map(|time| Instant::now() + time);
        let mut script = self.script.lock();
        script.produced += 1;
        if script.max_bytes.is_some_and(|max| batch.len() > max) {
            return Err(Error::TooLarge {
                broker: "kafka:9092".into(),
            });
        }
        let batch = RecordBatches::new(batch).next().unwrap().unwrap();
        let records = batch.decode().unwrap();
        let values: Vec<_> = records.iter().map(|record| record.value().unwrap().to_vec()).collect();
        if script.refused.as_ref().is_some_and(|refused| values.contains(refused)) {
            return Err(refused());
        }
        script.batches.push(values);
        Ok(())
    }

    async fn fetch(&mut self, _: i64, _: FetchSize, _: Isolation) -> Result<Fetched, Error> {
        unreachable!("a producer does not fetch")
    }

    async fn offset(&mut self, _: End) -> Result<i64, Error> {
        unreachable!("a producer looks up no offset")
    }

    async fn probe(&mut self) -> Result<(), Error> {
        let outcome = {
            let mut script = self.script.lock();
            script.probed += 1;
            script.probes.pop_front()
        };
        Outcome::play(outcome, Duration::from_secs(1)).await.map(drop)
    }

    fn is_usable(&self) -> bool {
        true
    }

    fn throttled_until(&self) -> Option<Instant> {
        self.throttled_until.filter(|until| *until > Instant::now())
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
        let script = Script {
            connects: connects.into(),
            produces: produces.into(),
            ..Script::default()
        };
        let broker = Broker::new(script);
        let (sender, deliveries) = mpsc::channel(10_000);
        let in_flight = Gauge::default();
        let readiness = Readiness::default();
        let tasks = Tasks::default();
        let settings = ProducerSettings {
            connections,
            max_bytes: 100 * MAX_BATCH_BYTES,
            delivery_timeout,
            in_flight: Some(in_flight.clone()),
        };
        let producer = Producer::new(
            settings,
            Deliveries(sender),
            readiness.health_check("outbox"),
            ProducerMetrics::default(),
        );
        producer.add_connector(&tasks, 0, broker.clone());
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
        self.producer.try_send(record, token, None).unwrap();
    }

    async fn next_result(&mut self) -> (usize, DeliveryResult) {
        self.deliveries.recv().await.unwrap()
    }

    fn accepted(&self) -> Vec<Vec<String>> {
        let text = |value: &Vec<u8>| String::from_utf8(value.clone()).unwrap();
        let script = self.broker.script.lock();
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
    assert_eq!(fixture.broker.script.lock().connections, 1, "one connection is enough");
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
    for token in 0..40_000 {
        fixture.send(token);
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(fixture.broker.script.lock().connections, 3);
}

#[tokio::test(start_paused = true)]
async fn broken_connection_is_unknown_and_replaced() {
    let mut fixture = Fixture::new(NO_RETRY, 1, vec![], vec![Outcome::Fail]);
    fixture.send(1);
    assert_eq!(fixture.next_result().await, (1, DeliveryResult::Unknown));
    fixture.send(2);
    assert_eq!(fixture.next_result().await, (2, DeliveryResult::Acknowledged));
    assert_eq!(fixture.broker.script.lock().connections, 2);
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
    let mut fixture = Fixture::new(
        NO_RETRY,
        1,
        vec![Outcome::Hang, Outcome::Unreachable, Outcome::Unreachable],
        vec![],
    );
    fixture.send(1);
    let start = Instant::now();
    assert_eq!(fixture.next_result().await, (1, DeliveryResult::NotSent));
    assert!(start.elapsed() <= Duration::from_secs(1), "one attempt");
    assert_eq!(fixture.readiness.not_ready().len(), 1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(fixture.readiness.not_ready().is_empty());
    fixture.send(2);
    assert_eq!(fixture.next_result().await, (2, DeliveryResult::Acknowledged));
}

#[tokio::test(start_paused = true)]
async fn delivery_timeout_retries_in_order_through_any_failure() {
    let connects = vec![Outcome::Unreachable, Outcome::Hang];
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
    assert_eq!(fixture.next_result().await, (1, DeliveryResult::Refused));
    fixture.send(2);
    assert_eq!(fixture.next_result().await, (2, DeliveryResult::Acknowledged));
    assert_eq!(fixture.broker.script.lock().connections, 1, "the connection is good");
}

#[tokio::test(start_paused = true)]
async fn full_queue_rejects_try_send_and_delays_send() {
    let go = Arc::new(Notify::new());
    let mut fixture = Fixture::new(NO_RETRY, 1, vec![], vec![Outcome::Wait(Arc::clone(&go))]);
    fixture.send(0);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let record = || Record::new(Vec::new(), vec![b'x'; MAX_BATCH_BYTES]);
    let mut fitting = 0;
    while fixture.producer.try_send(record(), 1, None).is_ok() {
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
            .try_send(Record::new(Vec::new(), Vec::new()), 3, None)
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
            .try_send(Record::new(Vec::new(), vec![b'x'; MAX_BATCH_BYTES]), token, None)
    };
    full_batch(0).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    full_batch(1).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(fixture.broker.script.lock().connections, 2);
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
    let record = || Record::new(Vec::new(), vec![b'x'; 100 * MAX_BATCH_BYTES]);
    fixture.producer.try_send(record(), 1, None).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    fixture.producer.try_send(record(), 2, None).unwrap();
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
        (connected(many(|| Outcome::Unreachable)), vec![Outcome::Hang]),
        (connected(many(|| Outcome::Hang)), vec![Outcome::Hang]),
        (vec![], many(|| Outcome::Fail)),
        (vec![], many(|| Outcome::Hang)),
    ] {
        let script = format!("{connects:?} {produces:?}");
        let mut fixture = Fixture::new(RETRY_FOREVER, 1, connects, produces);
        let record = || Record::new(Vec::new(), vec![b'x'; 100 * MAX_BATCH_BYTES]);
        let start = Instant::now();
        fixture.producer.try_send(record(), 1, None).unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        while fixture.producer.try_send(record(), 2, None).is_ok() {}

        let (unreachable, kept_waiting) = tokio::join!(
            async { (fixture.producer.send(record(), 3, || false).await, start.elapsed()) },
            fixture.producer.send(record(), 4, || true),
        );
        assert!(matches!(unreachable.0, Err(SendError::Unreachable(3))), "{script}");
        let most = PRODUCE_TIMEOUT + 2 * UNREACHABLE_AFTER;
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
    assert_eq!(fixture.next_result().await, (2, DeliveryResult::NotSent));
    assert_eq!(fixture.next_result().await, (1, DeliveryResult::Unknown));
    assert!(fixture.producer.close(Duration::from_secs(10)).await);
}

#[tokio::test(start_paused = true)]
async fn batches_go_round_robin_over_the_partitions() {
    let mut fixture = Fixture::new(NO_RETRY, 4, vec![], vec![]);
    let other = Broker::new(Script::default());
    fixture.producer.add_connector(&fixture.tasks, 1, other.clone());
    tokio::time::sleep(Duration::from_millis(1)).await;
    for token in 0..10 {
        fixture.send(token);
        assert_eq!(fixture.next_result().await, (token, DeliveryResult::Acknowledged));
    }
    assert_eq!((fixture.accepted().len(), other.script.lock().batches.len()), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn removed_partition_leaves_its_queued_records_to_the_others() {
    let go = Arc::new(Notify::new());
    let mut fixture = Fixture::new(RETRY_FOREVER, 1, vec![], vec![Outcome::Wait(Arc::clone(&go))]);
    fixture.send(0);
    tokio::time::sleep(Duration::from_millis(1)).await;
    fixture.send(1);
    let other = Broker::new(Script::default());
    other.script.lock().connects.push_back(Outcome::Hang);
    fixture.producer.add_connector(&fixture.tasks, 1, other.clone());
    fixture.producer.remove_partition(0);
    assert!(
        !fixture.producer.shared.accumulator.lock().is_idle(),
        "a batch is in flight"
    );
    // Its batch is not cut off.
    go.notify_one();
    assert_eq!(fixture.next_result().await, (0, DeliveryResult::Acknowledged));
    assert_eq!(fixture.next_result().await, (1, DeliveryResult::Acknowledged));
    for token in 2..5 {
        fixture.send(token);
        assert_eq!(fixture.next_result().await, (token, DeliveryResult::Acknowledged));
    }
    assert_eq!(fixture.accepted(), [["0"]]);
    assert_eq!(other.script.lock().batches.len(), 4);
    // Its task has ended: it probes no more.
    tokio::time::sleep(3 * PROBE_INTERVAL).await;
    assert_eq!(fixture.broker.script.lock().probed, 0);
    assert!(other.script.lock().probed > 0);
}

#[tokio::test(start_paused = true)]
async fn removed_partition_is_not_connected_to_any_more() {
    let unreachable = (0..10_000).map(|_| Outcome::Unreachable).collect();
    let mut fixture = Fixture::new(RETRY_FOREVER, 1, unreachable, vec![]);
    fixture.send(0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let other = Broker::new(Script::default());
    fixture.producer.add_connector(&fixture.tasks, 1, other.clone());
    fixture.producer.remove_partition(0);
    assert_eq!(fixture.next_result().await, (0, DeliveryResult::Acknowledged));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let left = fixture.broker.script.lock().connects.len();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(fixture.broker.script.lock().connects.len(), left);
    assert!(fixture.producer.close(Duration::from_secs(1)).await);
}

#[tokio::test(start_paused = true)]
async fn records_for_a_missing_partition_fail_although_they_would_be_sent_again() {
    let missing = (0..10_000).map(|_| Outcome::Missing).collect();
    let mut fixture = Fixture::new(RETRY_FOREVER, 1, missing, vec![]);
    let start = Instant::now();
    fixture.send(0);
    assert_eq!(fixture.next_result().await, (0, DeliveryResult::NotSent));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn partition_that_one_broker_does_not_know_yet_costs_no_record() {
    let mut fixture = Fixture::new(RETRY_FOREVER, 1, vec![Outcome::Missing], vec![]);
    fixture.send(0);
    assert_eq!(fixture.next_result().await, (0, DeliveryResult::Acknowledged));
}

#[tokio::test(start_paused = true)]
async fn too_large_batch_is_split_down_to_the_record_that_does_not_fit() {
    let go = Arc::new(Notify::new());
    let mut fixture = Fixture::new(NO_RETRY, 1, vec![], vec![Outcome::Wait(Arc::clone(&go))]);
    fixture.broker.script.lock().max_bytes = Some(1_000);
    fixture.send(0);
    tokio::time::sleep(Duration::from_millis(1)).await;
    for token in 1..20 {
        fixture.send(token);
    }
    let large = Record::new(Vec::new(), vec![b'x'; 1_000]);
    fixture.producer.try_send(large, 20, None).unwrap();
    fixture.send(21);
    go.notify_one();
    for token in 0..22 {
        let result = match token {
            20 => DeliveryResult::Refused,
            _ => DeliveryResult::Acknowledged,
        };
        assert_eq!(fixture.next_result().await, (token, result), "in order");
    }
    assert_eq!(fixture.accepted().concat().len(), 21, "each once");
    assert_eq!(fixture.broker.script.lock().connections, 1, "the connection is good");
}

/// Sends all records but the first as one batch, with a record that does not fit at its end if `with_large` says so. Returns
/// how many calls it takes.
async fn send_as_one_batch(fixture: &mut Fixture, count: usize, with_large: bool) -> usize {
    let go = Arc::new(Notify::new());
    let before = {
        let mut script = fixture.broker.script.lock();
        script.produces.push_back(Outcome::Wait(Arc::clone(&go)));
        script.produced
    };
    fixture.send(0);
    tokio::time::sleep(Duration::from_millis(1)).await;
    for token in 1..count {
        fixture.send(token);
    }
    if with_large {
        let large = Record::new(Vec::new(), vec![b'x'; 1_000]);
        fixture.producer.try_send(large, count, None).unwrap();
    }
    go.notify_one();
    for _ in 0..count + usize::from(with_large) {
        fixture.next_result().await;
    }
    fixture.broker.script.lock().produced - before - 1
}

#[tokio::test(start_paused = true)]
async fn record_that_does_not_fit_leaves_later_batches_as_large_as_before() {
    let mut fixture = Fixture::new(NO_RETRY, 1, vec![], vec![]);
    fixture.broker.script.lock().max_bytes = Some(1_000);
    assert!(
        send_as_one_batch(&mut fixture, 20, true).await > 1,
        "the batch is split"
    );
    assert_eq!(send_as_one_batch(&mut fixture, 20, false).await, 1);
}

#[tokio::test(start_paused = true)]
async fn batches_are_no_larger_than_what_the_broker_accepted() {
    let mut fixture = Fixture::new(NO_RETRY, 1, vec![], vec![]);
    fixture.broker.script.lock().max_bytes = Some(1_000);
    let refused_and_sent = send_as_one_batch(&mut fixture, 300, false).await;
    let sent = send_as_one_batch(&mut fixture, 300, false).await;
    assert!(sent < refused_and_sent, "{sent} of {refused_and_sent}");
    let largest = fixture.accepted().iter().map(Vec::len).max().unwrap();
    assert!(
        sent <= 300_usize.div_ceil(largest) + 1,
        "batches are full: {sent} of up to {largest} records"
    );
}

#[tokio::test(start_paused = true)]
async fn record_that_is_refused_for_itself_fails_alone() {
    let go = Arc::new(Notify::new());
    let mut fixture = Fixture::new(RETRY_FOREVER, 1, vec![], vec![Outcome::Wait(Arc::clone(&go))]);
    fixture.broker.script.lock().refused = Some(b"3".to_vec());
    fixture.send(0);
    tokio::time::sleep(Duration::from_millis(1)).await;
    for token in 1..6 {
        fixture.send(token);
    }
    go.notify_one();
    for token in 0..6 {
        let result = match token {
            3 => DeliveryResult::Refused,
            _ => DeliveryResult::Acknowledged,
        };
        assert_eq!(fixture.next_result().await, (token, result));
    }
}

#[tokio::test(start_paused = true)]
async fn denied_topic_refuses_the_batch_and_is_not_ready() {
    let mut fixture = Fixture::new(RETRY_FOREVER, 1, vec![], vec![Outcome::Deny]);
    tokio::time::sleep(Duration::from_millis(1)).await;
    fixture.broker.script.lock().connects.push_back(Outcome::Deny);
    fixture.send(1);
    assert_eq!(fixture.next_result().await, (1, DeliveryResult::Refused));
    let causes = fixture.readiness.not_ready();
    assert!(causes[0].1.contains("may not Write topic"), "{causes:?}");
    fixture.send(2);
    assert_eq!(fixture.next_result().await, (2, DeliveryResult::Acknowledged));
    assert!(fixture.readiness.not_ready().is_empty());
}

#[tokio::test(start_paused = true)]
async fn moved_leader_is_followed_without_a_failed_record() {
    let mut fixture = Fixture::new(NO_RETRY, 1, vec![], vec![Outcome::Moved, Outcome::Moved]);
    fixture.send(1);
    assert_eq!(fixture.next_result().await, (1, DeliveryResult::Acknowledged));
    assert_eq!(fixture.broker.script.lock().connections, 3);
}

#[tokio::test(start_paused = true)]
async fn record_is_not_sent_after_its_deadline() {
    let go = Arc::new(Notify::new());
    let mut fixture = Fixture::new(NO_RETRY, 1, vec![], vec![Outcome::Wait(Arc::clone(&go))]);
    fixture.send(0);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let deadline = Instant::now() + Duration::from_secs(1);
    let record = Record::new(Vec::new(), b"1".to_vec());
    fixture.producer.try_send(record, 1, Some(deadline)).unwrap();
    fixture.send(2);
    tokio::time::sleep_until(deadline).await;
    go.notify_one();
    assert_eq!(fixture.next_result().await, (0, DeliveryResult::Acknowledged));
    assert_eq!(fixture.next_result().await, (1, DeliveryResult::NotSent));
    assert_eq!(fixture.next_result().await, (2, DeliveryResult::Acknowledged));
    assert_eq!(fixture.accepted(), [["0"], ["2"]]);
}

#[tokio::test(start_paused = true)]
async fn throttled_broker_gets_each_record_once_and_no_more_meanwhile() {
    let throttle = Duration::from_secs(5);
    let mut fixture = Fixture::new(NO_RETRY, 1, vec![], vec![Outcome::Throttle(throttle)]);
    let start = Instant::now();
    fixture.send(0);
    assert_eq!(fixture.next_result().await, (0, DeliveryResult::Acknowledged));
    fixture.send(1);
    assert_eq!(fixture.next_result().await, (1, DeliveryResult::Acknowledged));
    assert!(start.elapsed() >= throttle, "{:?}", start.elapsed());
    assert_eq!(fixture.accepted(), [["0"], ["1"]]);
    assert_eq!(fixture.broker.script.lock().connections, 1, "a throttle is no failure");
}

#[tokio::test(start_paused = true)]
async fn full_queue_of_a_throttled_broker_rejects_before_anything_is_written() {
    let throttle = Duration::from_secs(5);
    let mut fixture = Fixture::new(NO_RETRY, 1, vec![], vec![Outcome::Throttle(throttle)]);
    fixture.send(0);
    assert_eq!(fixture.next_result().await, (0, DeliveryResult::Acknowledged));
    let large = || Record::new(Vec::new(), vec![b'x'; MAX_BATCH_BYTES / 2]);
    let mut queued = 0;
    while fixture.producer.try_send(large(), queued + 1, None).is_ok() {
        queued += 1;
    }
    assert_eq!(fixture.accepted().len(), 1, "nothing is written meanwhile");
    for token in 1..=queued {
        assert_eq!(fixture.next_result().await, (token, DeliveryResult::Acknowledged));
    }
    assert_eq!(fixture.accepted().concat().len(), queued + 1, "each once");
}

#[tokio::test(start_paused = true)]
async fn record_whose_deadline_passes_during_a_throttle_is_not_sent() {
    let throttle = Duration::from_secs(5);
    let mut fixture = Fixture::new(NO_RETRY, 1, vec![], vec![Outcome::Throttle(throttle)]);
    fixture.send(0);
    assert_eq!(fixture.next_result().await, (0, DeliveryResult::Acknowledged));
    let record = Record::new(Vec::new(), b"1".to_vec());
    let deadline = Instant::now() + throttle / 2;
    fixture.producer.try_send(record, 1, Some(deadline)).unwrap();
    fixture.send(2);
    assert_eq!(fixture.next_result().await, (1, DeliveryResult::NotSent));
    assert_eq!(fixture.next_result().await, (2, DeliveryResult::Acknowledged));
    assert_eq!(fixture.accepted(), [["0"], ["2"]]);
}

#[tokio::test(start_paused = true)]
async fn idle_connection_is_probed_and_replaced() {
    let mut fixture = Fixture::new(NO_RETRY, 1, vec![], vec![]);
    fixture
        .broker
        .script
        .lock()
        .probes
        .extend([Outcome::Throttle(Duration::ZERO), Outcome::Hang]);
    tokio::time::sleep(2 * PROBE_INTERVAL + Duration::from_millis(10)).await;
    assert_eq!(fixture.broker.script.lock().connections, 1);
    fixture.broker.script.lock().connects.push_back(Outcome::Unreachable);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(fixture.broker.script.lock().probed >= 2);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        fixture.broker.script.lock().connections,
        2,
        "the silent connection is replaced"
    );
    fixture.send(1);
    assert_eq!(fixture.next_result().await, (1, DeliveryResult::Acknowledged));
}
