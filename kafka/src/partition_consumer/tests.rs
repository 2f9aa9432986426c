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
const POLL: Duration = Duration::from_millis(500);

/// What becomes of the next connection or call. When the script is over, all is well.
#[derive(Debug)]
enum Act {
    Fail,
    Missing,
    /// Answers when the test says so.
    Wait(Arc<Notify>),
}

/// A log of empty records, one a millisecond, and the broker in front of it.
#[derive(Debug, Clone)]
struct Broker(Arc<Mutex<Script>>);

#[derive(Debug, Default)]
struct Script {
    connects: VecDeque<Act>,
    calls: VecDeque<Act>,
    connections: u64,
    log: std::ops::Range<i64>,
    /// The time of the record that would be at offset 0.
    epoch_ms: i64,
    /// From here on a transaction is open.
    open_at: Option<i64>,
}

impl Act {
    async fn play(act: Option<Self>) -> Result<(), Error> {
        match act {
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
    fn records(&self, from: i64, width: FetchSize) -> Vec<ConsumedRecord> {
        let end = match (width, self.open_at) {
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
        let act = self.0.lock().connects.pop_front();
        Act::play(act).await?;
        self.0.lock().connections += 1;
        Ok(self.clone())
    }
}

impl LeaderClient for Broker {
    async fn produce(&self, _: Vec<Record>) -> Result<(), Error> {
        unreachable!("a consumer does not produce")
    }

    async fn fetch(&self, from: i64, width: FetchSize) -> Result<(Vec<ConsumedRecord>, i64), Error> {
        let act = self.0.lock().calls.pop_front();
        Act::play(act).await?;
        let (log, records) = {
            let script = self.0.lock();
            (script.log.clone(), script.records(from, width))
        };
        if !(log.start..=log.end).contains(&from) {
            return Err(Error::OutOfRange);
        }
        if records.is_empty() && width == FetchSize::Full {
            tokio::time::sleep(POLL).await;
        }
        Ok((records, log.end))
    }

    async fn offset(&self, end: End) -> Result<i64, Error> {
        let act = self.0.lock().calls.pop_front();
        Act::play(act).await?;
        let script = self.0.lock();
        Ok(match end {
            End::Earliest => script.log.start,
            End::Latest => script.open_at.unwrap_or(script.log.end),
        })
    }
}

struct Setup {
    broker: Broker,
    consumer: PartitionConsumer<Broker>,
    readiness: Readiness,
    metrics: ConsumerMetrics,
}

impl Setup {
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

    /// The offsets of the next records that come.
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
async fn a_batch_says_where_the_reader_is_and_what_is_left() {
    let mut setup = Setup::new(3..8, Start::Earliest);
    setup.consumer.wait_for_start().await;
    assert_eq!(setup.consumer.position(), 3);
    setup.script().open_at = Some(6);

    let batch = setup.consumer.poll().await;
    assert_eq!(batch.records.len(), 3);
    assert_eq!((batch.position, batch.at_end), (6, false));
    assert_eq!((setup.consumer.position(), setup.metrics.lag.get()), (6, 2));

    setup.script().open_at = None;
    assert_eq!(setup.read().await, [6, 7]);
    let batch = setup.consumer.poll().await;
    assert_eq!((batch.records.len(), batch.position, batch.at_end), (0, 8, true));
    assert_eq!(setup.metrics.lag.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn only_a_fetch_knows_the_end() {
    let mut setup = Setup::new(5..8, Start::At(2));
    loop {
        let batch = setup.consumer.poll().await;
        if !batch.records.is_empty() {
            break;
        }
        assert!(!batch.at_end, "the beginning is looked for");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_to_read_is_said_about_twice_a_second() {
    let mut setup = Setup::new(0..4, Start::Latest);
    setup.consumer.wait_for_start().await;
    let start = Instant::now();
    for _ in 0..4 {
        assert_eq!(setup.consumer.poll().await.records, []);
    }
    assert_eq!(start.elapsed(), 4 * POLL);
}

#[tokio::test(start_paused = true)]
async fn the_condition_is_met_while_the_start_is_fixed_and_the_broker_answers() {
    let mut setup = Setup::new(0..4, Start::Latest);
    assert!(!setup.is_ready());
    setup.script().connects.push_back(Act::Fail);
    setup.script().calls.push_back(Act::Fail);
    setup.consumer.wait_for_start().await;
    assert!(setup.is_ready());
    setup.consumer.poll().await;

    let go = Arc::new(Notify::new());
    setup.script().calls.push_back(Act::Fail);
    setup.script().connects.push_back(Act::Wait(Arc::clone(&go)));
    assert!(
        timeout(POLL, setup.consumer.poll()).await.is_err(),
        "there is no connection"
    );
    assert!(setup.cause().contains("connection refused"), "{}", setup.cause());
    go.notify_one();
    setup.consumer.poll().await;
    assert!(setup.is_ready());
}

#[tokio::test(start_paused = true)]
async fn every_failure_costs_a_connection_and_nothing_of_the_log() {
    let mut setup = Setup::new(0..0, Start::Latest);
    setup.consumer.wait_for_start().await;
    for end in 1..=5 {
        setup.script().calls.push_back(Act::Fail);
        setup.script().log.end = end;
        assert_eq!(setup.read().await, [end - 1]);
        assert_eq!(setup.metrics.reconnects.get(), u64::try_from(end).unwrap());
    }
    assert_eq!(setup.script().connections, 6);
}

#[tokio::test(start_paused = true)]
async fn the_pauses_grow_to_a_bound_and_begin_anew() {
    let mut setup = Setup::new(0..1, Start::Earliest);
    setup.script().connects.extend((0..20).map(|_| Act::Fail));
    let start = Instant::now();
    setup.consumer.wait_for_start().await;
    let first = start.elapsed();
    // 5, 10, 20, 40, 80 and 160 ms, then 200 each, all up to a half shorter.
    let longest = Duration::from_millis(315) + 14 * backoff::MAX;
    // A timer is a millisecond late at most.
    let late = Duration::from_millis(20);
    assert!((longest / 2..=longest + late).contains(&first), "{first:?}");

    assert_eq!(setup.read().await, [0]);
    setup.script().connects.push_back(Act::Fail);
    setup.script().calls.push_back(Act::Fail);
    setup.script().log.end = 2;
    let start = Instant::now();
    assert_eq!(setup.read().await, [1]);
    let again = start.elapsed();
    assert!(again <= 3 * backoff::INITIAL + late, "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn no_two_clients_come_back_in_step() {
    let mut sums = HashSet::new();
    for _ in 0..8 {
        let mut setup = Setup::new(0..1, Start::Earliest);
        setup.script().connects.extend((0..20).map(|_| Act::Fail));
        let start = Instant::now();
        setup.consumer.wait_for_start().await;
        sums.insert(start.elapsed().as_millis());
    }
    // They are spread over some 400 ms: two may be the same by chance, but hardly half of them.
    assert!(sums.len() > 4, "{sums:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_half_way_changes_nothing() {
    let mut setup = Setup::new(0..3, Start::Earliest);
    let half_way =
        async |consumer: &mut PartitionConsumer<Broker>| assert!(timeout(POLL / 2, consumer.poll()).await.is_err());
    let never = || Act::Wait(Arc::default());

    setup.script().connects.push_back(never());
    half_way(&mut setup.consumer).await;
    assert_eq!(setup.script().connections, 0);

    setup.script().calls.push_back(never());
    half_way(&mut setup.consumer).await;
    assert!(!setup.is_ready());
    setup.consumer.wait_for_start().await;

    setup.script().calls.push_back(never());
    half_way(&mut setup.consumer).await;
    assert_eq!(setup.consumer.position(), 0);

    assert_eq!(setup.read().await, [0, 1, 2]);
    assert_eq!(setup.script().connections, 1);
}

#[tokio::test(start_paused = true)]
async fn a_start_outside_the_log_is_its_beginning() {
    for start in [2, 20] {
        let mut setup = Setup::new(5..8, Start::At(start));
        setup.consumer.wait_for_start().await;
        assert_eq!(setup.consumer.position(), start);
        assert!(!setup.is_ready(), "nobody has answered yet");
        assert_eq!(setup.read().await, [5, 6, 7]);
        assert_eq!(setup.metrics.lost.get(), u64::try_from(5 - start).unwrap_or(0));
    }
    for (start, reads) in [(5, vec![vec![5], vec![6, 7]]), (7, vec![vec![7]])] {
        let mut setup = Setup::new(5..8, Start::At(start));
        for read in reads {
            assert_eq!(setup.read().await, read);
        }
    }
    let mut setup = Setup::new(5..8, Start::At(8));
    let begun = Instant::now();
    assert_eq!(setup.consumer.poll().await.position, 8);
    assert!(
        setup.is_ready() && begun.elapsed().is_zero(),
        "nobody waits for a record"
    );
    setup.script().log.end = 9;
    assert_eq!(setup.read().await, [8]);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_was_gone_is_read_from_its_beginning() {
    let mut setup = Setup::new(0..3, Start::Latest);
    setup.consumer.wait_for_start().await;
    setup.script().calls.push_back(Act::Fail);
    setup.script().connects.push_back(Act::Missing);
    setup.script().log = 0..2;
    assert_eq!(setup.read().await, [0, 1]);
    assert!(setup.is_ready());
}

#[tokio::test(start_paused = true)]
async fn another_log_of_the_same_name_is_read_from_its_beginning() {
    let mut setup = Setup::new(0..3, Start::Earliest);
    assert_eq!(setup.read().await, [0, 1, 2]);
    setup.script().calls.push_back(Act::Fail);
    setup.script().log = 0..4;
    setup.script().epoch_ms = 1_000;
    assert_eq!(setup.read().await, [0, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn the_same_log_is_gone_on_with() {
    let mut setup = Setup::new(0..3, Start::Earliest);
    assert_eq!(setup.read().await, [0, 1, 2]);
    setup.script().calls.push_back(Act::Fail);
    setup.script().log.end = 4;
    assert_eq!(setup.read().await, [3]);
}

#[tokio::test(start_paused = true)]
async fn an_open_transaction_is_no_connection_lost() {
    let mut setup = Setup::new(0..3, Start::Earliest);
    setup.script().open_at = Some(1);
    assert_eq!(setup.read().await, [0]);
    assert!(timeout(4 * POLL, setup.read()).await.is_err());
    assert!(setup.cause().contains("open transaction"), "{}", setup.cause());
    setup.script().open_at = None;
    assert_eq!(setup.read().await, [1, 2]);
    assert!(setup.is_ready());
    assert_eq!(setup.script().connections, 1);
}

#[tokio::test]
async fn the_lag_is_gone_with_its_reader() {
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = ConsumerMetrics::register(&mut registry);
    let shown = |registry: &_| {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text.contains("partition=\"7\"")
    };
    let broker = Setup::new(0..0, Start::Latest).broker;
    let health_check = Readiness::default().health_check("replies");
    let consumer = PartitionConsumer::new(broker, Start::Latest, health_check, metrics.of(7));
    assert!(shown(&registry));
    drop(consumer);
    assert!(!shown(&registry));
}
