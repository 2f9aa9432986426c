use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use chrono::DateTime;
use parking_lot::Mutex;
use rskafka::record::RecordAndOffset;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{
    super::{
        backoff,
        cursor::Start,
        link::{End, FetchSize},
        record::Record,
    },
    *,
};
use shared::readiness::Readiness;

/// How long a scripted broker waits for records before it answers without.
const FETCH_WAIT: Duration = Duration::from_millis(500);

/// How a scripted broker answers a connect or a call. Those beyond the script succeed.
#[derive(Debug)]
enum Outcome {
    Fail,
    Missing,
    /// Succeeds when notified.
    Wait(Arc<Notify>),
}

/// A broker with a log of empty records, one per millisecond.
#[derive(Debug, Clone)]
struct Broker(Arc<Mutex<Script>>);

#[derive(Debug, Default)]
struct Script {
    connects: VecDeque<Outcome>,
    calls: VecDeque<Outcome>,
    connections: u64,
    log: std::ops::Range<i64>,
    /// The timestamp of offset 0, in milliseconds.
    epoch_ms: i64,
    /// The first offset of an open transaction.
    open_at: Option<i64>,
}

impl Outcome {
    async fn play(outcome: Option<Self>) -> Result<(), Error> {
        match outcome {
            None => Ok(()),
            Some(Self::Fail) => Err(Error::Failed("connection refused".into())),
            Some(Self::Missing) => Err(Error::TopicMissing("pong".into())),
            Some(Self::Wait(go)) => {
                go.notified().await;
                Ok(())
            }
        }
    }
}

impl Script {
    fn records(&self, from: i64, size: FetchSize) -> Vec<ConsumedRecord> {
        let end = match (size, self.open_at) {
            (FetchSize::Full, end) => end.unwrap_or(self.log.end).min(self.log.end),
            (FetchSize::SingleBatch, end) => (from + 1).min(end.unwrap_or(i64::MAX)).min(self.log.end),
        };
        let record = |offset| RecordAndOffset {
            record: rskafka::record::Record {
                key: None,
                value: None,
                headers: Default::default(),
                timestamp: DateTime::from_timestamp_millis(self.epoch_ms + offset).unwrap(),
            },
            offset,
        };
        (from..end).map(|offset| ConsumedRecord(record(offset))).collect()
    }
}

impl Connector for Broker {
    type LeaderClient = Self;

    async fn connect(&self) -> Result<Self, Error> {
        let outcome = self.0.lock().connects.pop_front();
        Outcome::play(outcome).await?;
        self.0.lock().connections += 1;
        Ok(self.clone())
    }
}

impl LeaderClient for Broker {
    async fn produce(&self, _: Vec<Record>) -> Result<(), Error> {
        unreachable!("a consumer does not produce")
    }

    async fn fetch(&self, from: i64, size: FetchSize) -> Result<(Vec<ConsumedRecord>, i64), Error> {
        let outcome = self.0.lock().calls.pop_front();
        Outcome::play(outcome).await?;
        let (log, records) = {
            let script = self.0.lock();
            (script.log.clone(), script.records(from, size))
        };
        if !(log.start..=log.end).contains(&from) {
            return Err(Error::OutOfRange);
        }
        if records.is_empty() && size == FetchSize::Full {
            tokio::time::sleep(FETCH_WAIT).await;
        }
        Ok((records, log.end))
    }

    async fn offset(&self, end: End) -> Result<i64, Error> {
        let outcome = self.0.lock().calls.pop_front();
        Outcome::play(outcome).await?;
        let script = self.0.lock();
        Ok(match end {
            End::Earliest => script.log.start,
            End::Latest => script.open_at.unwrap_or(script.log.end),
        })
    }
}

struct Fixture {
    broker: Broker,
    consumer: PartitionConsumer<Broker>,
    readiness: Readiness,
    metrics: ConsumerMetrics,
}

impl Fixture {
    fn new(log: std::ops::Range<i64>, start: Start) -> Self {
        let script = Script {
            log,
            ..Script::default()
        };
        let broker = Broker(Arc::new(Mutex::new(script)));
        let readiness = Readiness::default();
        let metrics = ConsumerMetrics::default();
        let consumer = PartitionConsumer::new(
            broker.clone(),
            start,
            readiness.health_check("replies"),
            metrics.clone(),
        );
        Self {
            broker,
            consumer,
            readiness,
            metrics,
        }
    }

    fn script(&self) -> parking_lot::MutexGuard<'_, Script> {
        self.broker.0.lock()
    }

    fn is_ready(&self) -> bool {
        self.readiness.not_ready().is_empty()
    }

    fn cause(&self) -> String {
        self.readiness.not_ready().remove(0).1
    }

    /// The offsets of the next records.
    async fn read(&mut self) -> Vec<i64> {
        loop {
            let records = self.consumer.poll().await.records;
            if !records.is_empty() {
                return records.iter().map(ConsumedRecord::offset).collect();
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn poll_returns_position_and_end_and_sets_the_lag() {
    let mut fixture = Fixture::new(3..8, Start::Earliest);
    fixture.consumer.wait_for_start().await;
    assert_eq!(fixture.consumer.position(), 3);
    fixture.script().open_at = Some(6);

    let polled = fixture.consumer.poll().await;
    assert_eq!(polled.records.len(), 3);
    assert_eq!((polled.position, polled.at_end), (6, false));
    assert_eq!((fixture.consumer.position(), fixture.metrics.lag.get()), (6, 2));

    fixture.script().open_at = None;
    assert_eq!(fixture.read().await, [6, 7]);
    let polled = fixture.consumer.poll().await;
    assert_eq!((polled.records.len(), polled.position, polled.at_end), (0, 8, true));
    assert_eq!(fixture.metrics.lag.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn offset_look_up_is_not_at_end() {
    let mut fixture = Fixture::new(5..8, Start::At(2));
    loop {
        let polled = fixture.consumer.poll().await;
        if !polled.records.is_empty() {
            break;
        }
        assert!(!polled.at_end, "the offset of the beginning is looked up");
    }
}

#[tokio::test(start_paused = true)]
async fn empty_poll_returns_after_the_fetch_wait() {
    let mut fixture = Fixture::new(0..4, Start::Latest);
    fixture.consumer.wait_for_start().await;
    let start = Instant::now();
    for _ in 0..4 {
        assert_eq!(fixture.consumer.poll().await.records, []);
    }
    assert_eq!(start.elapsed(), 4 * FETCH_WAIT);
}

#[tokio::test(start_paused = true)]
async fn health_check_is_ready_while_the_start_is_fixed_and_the_broker_answers() {
    let mut fixture = Fixture::new(0..4, Start::Latest);
    assert!(!fixture.is_ready());
    fixture.script().connects.push_back(Outcome::Fail);
    fixture.script().calls.push_back(Outcome::Fail);
    fixture.consumer.wait_for_start().await;
    assert!(fixture.is_ready());
    fixture.consumer.poll().await;

    let go = Arc::new(Notify::new());
    fixture.script().calls.push_back(Outcome::Fail);
    fixture.script().connects.push_back(Outcome::Wait(Arc::clone(&go)));
    assert!(
        timeout(FETCH_WAIT, fixture.consumer.poll()).await.is_err(),
        "there is no connection"
    );
    assert!(fixture.cause().contains("connection refused"), "{}", fixture.cause());
    go.notify_one();
    fixture.consumer.poll().await;
    assert!(fixture.is_ready());
}

#[tokio::test(start_paused = true)]
async fn failed_call_reconnects_and_loses_no_record() {
    let mut fixture = Fixture::new(0..0, Start::Latest);
    fixture.consumer.wait_for_start().await;
    for end in 1..=5 {
        fixture.script().calls.push_back(Outcome::Fail);
        fixture.script().log.end = end;
        assert_eq!(fixture.read().await, [end - 1]);
        assert_eq!(fixture.metrics.reconnects.get(), u64::try_from(end).unwrap());
    }
    assert_eq!(fixture.script().connections, 6);
}

#[tokio::test(start_paused = true)]
async fn backoff_grows_to_its_maximum_and_resets_after_a_success() {
    let mut fixture = Fixture::new(0..1, Start::Earliest);
    fixture.script().connects.extend((0..20).map(|_| Outcome::Fail));
    let start = Instant::now();
    fixture.consumer.wait_for_start().await;
    let first = start.elapsed();
    // 5, 10, 20, 40, 80 and 160 ms, then 200 each, all up to a half shorter.
    let longest = Duration::from_millis(315) + 14 * backoff::MAX;
    // The paused clock rounds each pause up to a millisecond.
    let rounding = Duration::from_millis(20);
    assert!((longest / 2..=longest + rounding).contains(&first), "{first:?}");

    assert_eq!(fixture.read().await, [0]);
    fixture.script().connects.push_back(Outcome::Fail);
    fixture.script().calls.push_back(Outcome::Fail);
    fixture.script().log.end = 2;
    let start = Instant::now();
    assert_eq!(fixture.read().await, [1]);
    let again = start.elapsed();
    assert!(again <= 3 * backoff::INITIAL + rounding, "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn backoff_has_jitter() {
    let mut sums = HashSet::new();
    for _ in 0..8 {
        let mut fixture = Fixture::new(0..1, Start::Earliest);
        fixture.script().connects.extend((0..20).map(|_| Outcome::Fail));
        let start = Instant::now();
        fixture.consumer.wait_for_start().await;
        sums.insert(start.elapsed().as_millis());
    }
    // The sums are spread over some 400 ms. Two may be equal by chance, but hardly half of them.
    assert!(sums.len() > 4, "{sums:?}");
}

#[tokio::test(start_paused = true)]
async fn poll_is_cancel_safe() {
    let mut fixture = Fixture::new(0..3, Start::Earliest);
    let cancelled_poll = async |consumer: &mut PartitionConsumer<Broker>| {
        assert!(timeout(FETCH_WAIT / 2, consumer.poll()).await.is_err())
    };
    let never = || Outcome::Wait(Arc::default());

    fixture.script().connects.push_back(never());
    cancelled_poll(&mut fixture.consumer).await;
    assert_eq!(fixture.script().connections, 0);

    fixture.script().calls.push_back(never());
    cancelled_poll(&mut fixture.consumer).await;
    assert!(!fixture.is_ready());
    fixture.consumer.wait_for_start().await;

    fixture.script().calls.push_back(never());
    cancelled_poll(&mut fixture.consumer).await;
    assert_eq!(fixture.consumer.position(), 0);

    assert_eq!(fixture.read().await, [0, 1, 2]);
    assert_eq!(fixture.script().connections, 1);
}

#[tokio::test(start_paused = true)]
async fn start_outside_the_log_reads_from_the_beginning() {
    for start in [2, 20] {
        let mut fixture = Fixture::new(5..8, Start::At(start));
        fixture.consumer.wait_for_start().await;
        assert_eq!(fixture.consumer.position(), start);
        assert!(!fixture.is_ready(), "the broker has not answered yet");
        assert_eq!(fixture.read().await, [5, 6, 7]);
        assert_eq!(fixture.metrics.lost.get(), u64::try_from(5 - start).unwrap_or(0));
    }
    for (start, reads) in [(5, vec![vec![5], vec![6, 7]]), (7, vec![vec![7]])] {
        let mut fixture = Fixture::new(5..8, Start::At(start));
        for read in reads {
            assert_eq!(fixture.read().await, read);
        }
    }
    let mut fixture = Fixture::new(5..8, Start::At(8));
    let begun = Instant::now();
    assert_eq!(fixture.consumer.poll().await.position, 8);
    assert!(
        fixture.is_ready() && begun.elapsed().is_zero(),
        "the first answer does not wait for a record"
    );
    fixture.script().log.end = 9;
    assert_eq!(fixture.read().await, [8]);
}

#[tokio::test(start_paused = true)]
async fn recreated_topic_is_read_from_the_beginning() {
    let mut fixture = Fixture::new(0..3, Start::Latest);
    fixture.consumer.wait_for_start().await;
    fixture.script().calls.push_back(Outcome::Fail);
    fixture.script().connects.push_back(Outcome::Missing);
    fixture.script().log = 0..2;
    assert_eq!(fixture.read().await, [0, 1]);
    assert!(fixture.is_ready());
}

#[tokio::test(start_paused = true)]
async fn replaced_log_is_read_from_the_beginning() {
    let mut fixture = Fixture::new(0..3, Start::Earliest);
    assert_eq!(fixture.read().await, [0, 1, 2]);
    fixture.script().calls.push_back(Outcome::Fail);
    fixture.script().log = 0..4;
    fixture.script().epoch_ms = 1_000;
    assert_eq!(fixture.read().await, [0, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn same_log_continues_after_a_reconnect() {
    let mut fixture = Fixture::new(0..3, Start::Earliest);
    assert_eq!(fixture.read().await, [0, 1, 2]);
    fixture.script().calls.push_back(Outcome::Fail);
    fixture.script().log.end = 4;
    assert_eq!(fixture.read().await, [3]);
}

#[tokio::test(start_paused = true)]
async fn open_transaction_is_not_ready_and_keeps_the_connection() {
    let mut fixture = Fixture::new(0..3, Start::Earliest);
    fixture.script().open_at = Some(1);
    assert_eq!(fixture.read().await, [0]);
    assert!(timeout(4 * FETCH_WAIT, fixture.read()).await.is_err());
    assert!(fixture.cause().contains("open transaction"), "{}", fixture.cause());
    fixture.script().open_at = None;
    assert_eq!(fixture.read().await, [1, 2]);
    assert!(fixture.is_ready());
    assert_eq!(fixture.script().connections, 1);
}

#[tokio::test]
async fn dropped_consumer_removes_its_lag() {
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = ConsumerMetrics::register(&mut registry);
    let shown = |registry: &_| {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text.contains("partition=\"7\"")
    };
    let broker = Fixture::new(0..0, Start::Latest).broker;
    let health_check = Readiness::default().health_check("replies");
    let consumer = PartitionConsumer::new(broker, Start::Latest, health_check, metrics.for_partition(7));
    assert!(shown(&registry));
    drop(consumer);
    assert!(!shown(&registry));
}
