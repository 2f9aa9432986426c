use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use bytes::Bytes;
use shared::readiness::Readiness;

use super::*;
use crate::{
    backoff,
    cluster::Cluster,
    error::Failure,
    leader::{End, FetchSize, Isolation},
    record_batch::{RecordBatches, TransactionEnd, testing::TestBatch},
};

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
struct Broker {
    script: Arc<Mutex<Script>>,
    /// No call on this connection was dropped.
    is_usable: bool,
}

#[derive(Debug, Default)]
struct Script {
    connects: VecDeque<Outcome>,
    calls: VecDeque<Outcome>,
    connections: u64,
    log: std::ops::Range<i64>,
    /// The timestamp of offset 0, in milliseconds.
    epoch_ms: i64,
    /// Fetches give no more than up to here.
    fetch_until: Option<i64>,
    /// What fetches give instead of the log.
    batches: VecDeque<TestBatch>,
}

impl Outcome {
    async fn play(outcome: Option<Self>) -> Result<(), Error> {
        match outcome {
            None => Ok(()),
            Some(Self::Fail) => Err(refused()),
            Some(Self::Missing) => Err(Error::TopicMissing("pong".into())),
            Some(Self::Wait(go)) => {
                go.notified().await;
                Ok(())
            }
        }
    }
}

fn refused() -> Error {
    let error = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    Error::new(&"kafka:9092".into(), "connecting", Failure::Unreachable(error))
}

impl Script {
    fn batches(&mut self, from: i64, size: FetchSize) -> Vec<u8> {
        if let Some(batch) = self.batches.pop_front() {
            return batch.bytes();
        }
        let end = match size {
            FetchSize::Full => self.fetch_until.unwrap_or(i64::MAX).min(self.log.end),
            FetchSize::SingleBatch => (from + 1).min(self.log.end),
        };
        if from >= end {
            return Vec::new();
        }
        TestBatch::new(from..end, self.epoch_ms).bytes()
    }
}

impl Connector for Broker {
    type LeaderClient = Self;

    async fn connect(&self, operation: Operation) -> Result<Self, Error> {
        assert_eq!(operation, Operation::Read);
        let outcome = self.script.lock().connects.pop_front();
        Outcome::play(outcome).await?;
        self.script.lock().connections += 1;
        Ok(Self {
            is_usable: true,
            ..self.clone()
        })
    }
}

impl LeaderClient for Broker {
    async fn produce(&mut self, _: Bytes) -> Result<(), Error> {
        unreachable!("a consumer does not produce")
    }

    async fn fetch(&mut self, from: i64, size: FetchSize, _: Isolation) -> Result<Fetched, Error> {
        self.is_usable = false;
        let outcome = self.script.lock().calls.pop_front();
        Outcome::play(outcome).await?;
        let (log, bytes) = {
            let mut script = self.script.lock();
            (script.log.clone(), script.batches(from, size))
        };
        if !(log.start..=log.end).contains(&from) {
            self.is_usable = true;
            return Err(Error::OutOfRange);
        }
        if bytes.is_empty() && size == FetchSize::Full {
            tokio::time::sleep(FETCH_WAIT).await;
        }
        self.is_usable = true;
        Ok(Fetched {
            batches: RecordBatches::new(bytes.into()),
            high_watermark: log.end,
        })
    }

    async fn offset(&mut self, end: End) -> Result<i64, Error> {
        self.is_usable = false;
        let outcome = self.script.lock().calls.pop_front();
        Outcome::play(outcome).await?;
        self.is_usable = true;
        let script = self.script.lock();
        Ok(match end {
            End::Earliest => script.log.start,
            End::Latest => script.log.end,
        })
    }

    async fn probe(&mut self) -> Result<(), Error> {
        unreachable!("a consumer does not probe")
    }

    fn is_usable(&self) -> bool {
        self.is_usable
    }

    fn throttled_until(&self) -> Option<Instant> {
        None
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
        let broker = Broker {
            script: Arc::new(Mutex::new(script)),
            is_usable: false,
        };
        let readiness = Readiness::default();
        let metrics = ConsumerMetrics::default();
        let consumer = PartitionConsumer::new(
            broker.clone(),
            start,
            WhenHeldFull::Wait,
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
        self.broker.script.lock()
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
    fixture.script().fetch_until = Some(6);

    let polled = fixture.consumer.poll().await;
    assert_eq!(polled.records.len(), 3);
    assert_eq!((polled.position, polled.at_end), (6, false));
    assert_eq!((fixture.consumer.position(), fixture.metrics.lag.get()), (6, 2));

    fixture.script().fetch_until = None;
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
    // A dropped call leaves an answer under way: each had another connection after it.
    assert_eq!(fixture.script().connections, 3);
    assert!(fixture.is_ready());
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
async fn open_transaction_holds_back_its_own_records_only() {
    let mut fixture = Fixture::new(0..3, Start::Earliest);
    fixture.consumer.wait_for_start().await;
    fixture
        .script()
        .batches
        .push_back(TestBatch::new(0..1, 0).transactional(7));
    let polled = fixture.consumer.poll().await;
    assert_eq!(
        (polled.records.len(), polled.position, polled.held_from),
        (0, 1, Some(0))
    );
    assert_eq!(fixture.read().await, [1, 2]);
    assert!(fixture.is_ready(), "others are read");

    fixture.script().log.end = 4;
    let end = TestBatch::end(3, 7, TransactionEnd::Committed);
    fixture.script().batches.push_back(end);
    let polled = fixture.consumer.poll().await;
    let offsets: Vec<_> = polled.records.iter().map(ConsumedRecord::offset).collect();
    assert_eq!((offsets, polled.position, polled.held_from), (vec![0], 4, None));
    assert_eq!(fixture.script().connections, 1);
}

#[tokio::test(start_paused = true)]
async fn unreadable_batches_are_not_ready_after_ten_seconds() {
    let mut fixture = Fixture::new(0..200, Start::Earliest);
    fixture.consumer.wait_for_start().await;
    for offset in 0..12 {
        let batch = TestBatch::new(offset..offset + 1, 0).undecodable();
        fixture.script().batches.push_back(batch);
        fixture.consumer.poll().await;
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert!(fixture.cause().contains("could be decoded"), "{}", fixture.cause());
    fixture.read().await;
    assert!(fixture.is_ready());
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
    let cluster = Cluster::new("test", Vec::new(), crate::Security::default(), Vec::new()).into();
    let consumer = PartitionConsumer::new(
        broker,
        Start::Latest,
        WhenHeldFull::Wait,
        health_check,
        metrics.for_partition(&Partition::new(&cluster, "pong", 7)),
    );
    assert!(shown(&registry));
    drop(consumer);
    assert!(!shown(&registry));
}
