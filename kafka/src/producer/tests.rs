use std::{collections::VecDeque, time::Duration};

use tokio::{sync::mpsc, time::Instant};

use super::{
    super::{
        link::{End, FetchSize, PRODUCE_LIMIT, SMALL_BATCH_BYTES},
        record::ConsumedRecord,
    },
    *,
};
use shared::readiness::Readiness;

const ONCE: Duration = Duration::ZERO;

const ALWAYS: Duration = Duration::MAX;

/// What a scripted broker does with the next call. When the script is over, all is well.
#[derive(Debug)]
enum Act {
    Refuse,
    Fail,
    Hang,
    /// Succeeds when the test says so.
    Wait(Arc<Notify>),
}

#[derive(Debug, Clone, Default)]
struct Broker(Arc<Mutex<Script>>);

#[derive(Debug, Default)]
struct Script {
    connects: VecDeque<Act>,
    produces: VecDeque<Act>,
    connections: usize,
    /// The values of each frame it took.
    batches: Vec<Vec<Vec<u8>>>,
}

impl Act {
    async fn play(act: Option<Self>, limit: Duration) -> Result<(), Error> {
        match act {
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
        let act = self.0.lock().connects.pop_front();
        Act::play(act, Duration::from_secs(1)).await?;
        self.0.lock().connections += 1;
        Ok(self.clone())
    }
}

impl LeaderClient for Broker {
    async fn produce(&self, records: Vec<Record>) -> Result<(), Error> {
        let act = self.0.lock().produces.pop_front();
        Act::play(act, PRODUCE_LIMIT).await?;
        self.0
            .lock()
            .batches
            .push(records.into_iter().map(|it| it.value).collect());
        Ok(())
    }

    async fn fetch(&self, _: i64, _: FetchSize) -> Result<(Vec<ConsumedRecord>, i64), Error> {
        unreachable!("an producer does not fetch")
    }

    async fn offset(&self, _: End) -> Result<i64, Error> {
        unreachable!("an producer looks nothing up")
    }
}

/// Passes the fates on.
#[derive(Debug)]
struct Fates(mpsc::Sender<(usize, DeliveryResult)>);

impl DeliveryCallback for Fates {
    type Token = usize;

    fn on_delivery(&self, tokens: Vec<usize>, result: DeliveryResult) {
        for token in tokens {
            self.0.try_send((token, result)).unwrap();
        }
    }
}

struct Setup {
    broker: Broker,
    producer: Producer<Fates>,
    fates: mpsc::Receiver<(usize, DeliveryResult)>,
    in_flight: Gauge,
    readiness: Readiness,
    tasks: Tasks,
}

impl Setup {
    fn new(delivery_timeout: Duration, connections: usize, connects: Vec<Act>, produces: Vec<Act>) -> Self {
        let broker = Broker::default();
        broker.0.lock().connects = connects.into();
        broker.0.lock().produces = produces.into();
        let (sender, fates) = mpsc::channel(10_000);
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
            Fates(sender),
            readiness.health_check("outbox"),
            ProducerMetrics::default(),
        );
        producer.add_over(&tasks, broker.clone());
        Self {
            broker,
            producer,
            fates,
            in_flight,
            readiness,
            tasks,
        }
    }

    fn send(&self, token: usize) {
        let record = Record::new(Vec::new(), token.to_string().into_bytes());
        self.producer.try_send(record, token).unwrap();
    }

    async fn result(&mut self) -> (usize, DeliveryResult) {
        self.fates.recv().await.unwrap()
    }

    fn taken(&self) -> Vec<Vec<String>> {
        let text = |value: &Vec<u8>| String::from_utf8(value.clone()).unwrap();
        let script = self.broker.0.lock();
        script.batches.iter().map(|it| it.iter().map(text).collect()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn what_arrives_while_a_frame_is_under_way_goes_with_the_next() {
    let go = Arc::new(Notify::new());
    let mut setup = Setup::new(ONCE, 2, vec![], vec![Act::Wait(Arc::clone(&go))]);
    setup.send(1);
    tokio::time::sleep(Duration::from_millis(1)).await;
    setup.send(2);
    setup.send(3);
    go.notify_one();
    for token in 1..4 {
        assert_eq!(setup.result().await, (token, DeliveryResult::Acknowledged));
    }
    assert_eq!(setup.taken(), [vec!["1"], vec!["2", "3"]]);
    assert_eq!(setup.broker.0.lock().connections, 1, "one connection is enough");
}

#[tokio::test(start_paused = true)]
async fn what_is_worth_a_moment_goes_in_one_frame_without_its_end() {
    let mut setup = Setup::new(ONCE, 2, vec![], vec![]);
    setup.in_flight.set(6);
    let start = Instant::now();
    for token in 1..4 {
        setup.send(token);
        tokio::task::yield_now().await;
    }
    assert_eq!(setup.result().await, (1, DeliveryResult::Acknowledged));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(setup.taken(), [["1", "2", "3"]]);
}

#[tokio::test]
async fn batch_target_is_half_of_the_requests_in_flight() {
    let setup = Setup::new(ONCE, 1, vec![], vec![]);
    for (in_flight, batch_target) in [
        (0, 0),
        (3, 1),
        (4, 2),
        (1_000, 500),
        (1_024, 512),
        (16_384, 512),
        (-1, 0),
    ] {
        setup.in_flight.set(in_flight);
        assert_eq!(
            setup.producer.shared.batch_target(),
            batch_target,
            "{in_flight} in flight"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_moment_has_an_end() {
    let mut setup = Setup::new(ONCE, 2, vec![], vec![]);
    setup.in_flight.set(6);
    let start = Instant::now();
    setup.send(1);
    assert_eq!(setup.result().await, (1, DeliveryResult::Acknowledged));
    assert!(start.elapsed() <= 2 * LINGER, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_flush_does_not_wait_for_the_end_of_a_moment() {
    let setup = Setup::new(ONCE, 2, vec![], vec![]);
    tokio::time::sleep(Duration::from_millis(1)).await;
    setup.in_flight.set(6);
    let start = Instant::now();
    setup.send(1);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(setup.taken().is_empty(), "the connection gathers");
    assert!(setup.producer.flush(Duration::from_secs(5)).await);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(setup.taken(), [["1"]]);
}

#[tokio::test(start_paused = true)]
async fn whole_frames_open_further_lanes_up_to_the_bound() {
    let go = Arc::new(Notify::new());
    let waits = (0..10).map(|_| Act::Wait(Arc::clone(&go))).collect();
    let setup = Setup::new(ONCE, 3, vec![], waits);
    for token in 0..10_000 {
        setup.send(token);
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(setup.broker.0.lock().connections, 3);
}

#[tokio::test(start_paused = true)]
async fn a_failed_frame_is_told_at_once_and_the_next_goes_over_a_new_connection() {
    let mut setup = Setup::new(ONCE, 1, vec![], vec![Act::Fail]);
    setup.send(1);
    assert_eq!(setup.result().await, (1, DeliveryResult::Failed));
    setup.send(2);
    assert_eq!(setup.result().await, (2, DeliveryResult::Acknowledged));
    assert_eq!(setup.broker.0.lock().connections, 2);
}

#[tokio::test(start_paused = true)]
async fn a_frame_without_answer_is_unknown_and_is_not_sent_again() {
    let mut setup = Setup::new(ONCE, 1, vec![], vec![Act::Hang]);
    setup.send(1);
    assert_eq!(setup.result().await, (1, DeliveryResult::Unknown));
    setup.send(2);
    assert_eq!(setup.result().await, (2, DeliveryResult::Acknowledged));
    assert_eq!(setup.taken(), [["2"]]);
}

#[tokio::test(start_paused = true)]
async fn without_connection_senders_are_told_and_it_is_not_ready() {
    let mut setup = Setup::new(ONCE, 1, vec![Act::Hang, Act::Fail, Act::Fail], vec![]);
    setup.send(1);
    let start = Instant::now();
    assert_eq!(setup.result().await, (1, DeliveryResult::Failed));
    assert!(start.elapsed() <= Duration::from_secs(1), "one attempt");
    assert_eq!(setup.readiness.not_ready().len(), 1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(setup.readiness.not_ready().is_empty());
    setup.send(2);
    assert_eq!(setup.result().await, (2, DeliveryResult::Acknowledged));
}

#[tokio::test(start_paused = true)]
async fn with_resend_everything_arrives_in_order_through_any_failure() {
    let connects = vec![Act::Fail, Act::Hang];
    let mut setup = Setup::new(ALWAYS, 1, connects, vec![Act::Fail, Act::Hang, Act::Fail]);
    for token in 0..5 {
        setup.send(token);
    }
    for token in 0..5 {
        assert_eq!(setup.result().await, (token, DeliveryResult::Acknowledged));
    }
    assert_eq!(setup.taken().concat(), ["0", "1", "2", "3", "4"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_broker_will_never_take_is_dropped_even_with_resend() {
    let mut setup = Setup::new(ALWAYS, 1, vec![], vec![Act::Refuse]);
    setup.send(1);
    assert_eq!(setup.result().await, (1, DeliveryResult::Failed));
    setup.send(2);
    assert_eq!(setup.result().await, (2, DeliveryResult::Acknowledged));
    assert_eq!(setup.broker.0.lock().connections, 1, "the connection is good");
}

#[tokio::test(start_paused = true)]
async fn a_full_outbox_refuses_or_waits_for_room() {
    let go = Arc::new(Notify::new());
    let mut setup = Setup::new(ONCE, 1, vec![], vec![Act::Wait(Arc::clone(&go))]);
    setup.send(0);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let record = || Record::new(Vec::new(), vec![b'x'; SMALL_BATCH_BYTES]);
    let mut fitting = 0;
    while setup.producer.try_send(record(), 1).is_ok() {
        fitting += 1;
    }
    assert!((90..=100).contains(&fitting), "{fitting}");
    let late = setup.producer.send(record(), 2, || false);
    let (sent, ()) = tokio::join!(late, async { go.notify_one() });
    sent.unwrap();
    let mut fates = Vec::new();
    while fates.len() < fitting + 2 {
        fates.push(setup.result().await);
    }
    assert!(fates.iter().all(|(_, result)| *result == DeliveryResult::Acknowledged));
    assert_eq!(fates.last(), Some(&(2, DeliveryResult::Acknowledged)));
}

#[tokio::test(start_paused = true)]
async fn a_flush_sends_what_waits_and_takes_nothing_more() {
    let setup = Setup::new(ONCE, 2, vec![], vec![Act::Hang]);
    setup.send(1);
    tokio::time::sleep(Duration::from_millis(1)).await;
    setup.send(2);
    assert!(setup.producer.flush(Duration::from_secs(5)).await);
    assert_eq!(setup.taken(), [["2"]]);
    assert!(setup.producer.try_send(Record::new(Vec::new(), Vec::new()), 3).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_flush_sends_what_a_lane_too_many_has_lost() {
    let go = Arc::new(Notify::new());
    let mut setup = Setup::new(ALWAYS, 2, vec![], vec![Act::Wait(Arc::clone(&go)), Act::Hang]);
    let whole = |token| {
        setup
            .producer
            .try_send(Record::new(Vec::new(), vec![b'x'; SMALL_BATCH_BYTES]), token)
    };
    whole(0).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    whole(1).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(setup.broker.0.lock().connections, 2);
    setup.producer.set_max_connections(1);

    let flush = tokio::spawn({
        let producer = setup.producer.clone();
        async move { producer.flush(Duration::from_secs(60)).await }
    });
    go.notify_one();
    assert!(flush.await.unwrap());
    assert_eq!(setup.result().await, (0, DeliveryResult::Acknowledged));
    assert_eq!(setup.result().await, (1, DeliveryResult::Acknowledged));
}

#[tokio::test(start_paused = true)]
async fn a_flush_is_bounded() {
    let setup = Setup::new(ALWAYS, 1, vec![], (0..100).map(|_| Act::Hang).collect());
    setup.send(1);
    let start = Instant::now();
    assert!(!setup.producer.flush(Duration::from_secs(3)).await);
    assert_eq!(start.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_room_is_told_that_the_outbox_is_closed() {
    let setup = Setup::new(ALWAYS, 1, vec![], (0..100).map(|_| Act::Hang).collect());
    let record = || Record::new(Vec::new(), vec![b'x'; 100 * SMALL_BATCH_BYTES]);
    setup.producer.try_send(record(), 1).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    setup.producer.try_send(record(), 2).unwrap();
    let (sent, _) = tokio::join!(
        setup.producer.send(record(), 3, || false),
        setup.producer.flush(Duration::from_secs(1))
    );
    assert!(matches!(sent, Err(SendError::Closed(_, 3))));
}

/// As there are connections that fail, that hang, and that are taken although every frame is lost.
#[tokio::test(start_paused = true)]
async fn whoever_waits_for_room_is_told_that_nobody_can_be_reached_unless_it_insists() {
    let many = |act: fn() -> Act| (0..60).map(|_| act()).collect::<Vec<_>>();
    let up = || {
        let up = Arc::new(Notify::new());
        up.notify_one();
        Act::Wait(up)
    };
    let connected = |acts: Vec<Act>| [up()].into_iter().chain(acts).collect::<Vec<_>>();
    for (connects, produces) in [
        (connected(many(|| Act::Fail)), vec![Act::Hang]),
        (connected(many(|| Act::Hang)), vec![Act::Hang]),
        (vec![], many(|| Act::Fail)),
        (vec![], many(|| Act::Hang)),
    ] {
        let script = format!("{connects:?} {produces:?}");
        let mut setup = Setup::new(ALWAYS, 1, connects, produces);
        let record = || Record::new(Vec::new(), vec![b'x'; 100 * SMALL_BATCH_BYTES]);
        let start = Instant::now();
        setup.producer.try_send(record(), 1).unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        while setup.producer.try_send(record(), 2).is_ok() {}

        let (told, insisted) = tokio::join!(
            async { (setup.producer.send(record(), 3, || false).await, start.elapsed()) },
            setup.producer.send(record(), 4, || true),
        );
        assert!(matches!(told.0, Err(SendError::Unreachable(3))), "{script}");
        let most = PRODUCE_LIMIT + 2 * OUT_OF_REACH;
        assert!((OUT_OF_REACH..most).contains(&told.1), "{:?} {script}", told.1);
        insisted.unwrap();
        while setup.result().await != (4, DeliveryResult::Acknowledged) {}
        assert!(setup.producer.is_in_reach());
    }
}

#[tokio::test(start_paused = true)]
async fn patience_has_an_end() {
    let mut setup = Setup::new(
        Duration::from_secs(30),
        1,
        vec![],
        (0..100).map(|_| Act::Hang).collect(),
    );
    setup.send(1);
    let start = Instant::now();
    assert_eq!(setup.result().await, (1, DeliveryResult::Unknown));
    assert!(start.elapsed() >= Duration::from_secs(30), "{:?}", start.elapsed());
    assert!(start.elapsed() <= Duration::from_secs(36), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_is_abandoned_has_failed_and_its_lanes_end() {
    let mut setup = Setup::new(ALWAYS, 1, vec![], (0..100).map(|_| Act::Hang).collect());
    setup.send(1);
    tokio::time::sleep(Duration::from_millis(1)).await;
    setup.send(2);
    assert!(!setup.producer.flush(Duration::ZERO).await);
    setup.producer.abandon();
    assert_eq!(setup.result().await, (2, DeliveryResult::Failed));
    assert_eq!(setup.result().await, (1, DeliveryResult::Unknown));
    assert!(setup.producer.flush(Duration::from_secs(10)).await);
}

#[tokio::test(start_paused = true)]
async fn partitions_take_turns() {
    let mut setup = Setup::new(ONCE, 4, vec![], vec![]);
    let other = Broker::default();
    setup.producer.add_over(&setup.tasks, other.clone());
    tokio::time::sleep(Duration::from_millis(1)).await;
    for token in 0..10 {
        setup.send(token);
        assert_eq!(setup.result().await, (token, DeliveryResult::Acknowledged));
    }
    assert_eq!((setup.taken().len(), other.0.lock().batches.len()), (5, 5));
}
