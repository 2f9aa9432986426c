use prometheus_client::registry::Registry;
use shared::readiness::Readiness;
use tokio::time::timeout;

use super::{metadata::METADATA_MAX_AGE, *};
use crate::metrics::Metrics;

/// A bound for a busy machine.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

fn callback() -> ReplyDelivery {
    ReplyDelivery(Metrics::register(&mut Registry::default()))
}

fn producer() -> Producer {
    Producer::new(
        producer_settings(DELIVERY_TIMEOUT),
        callback(),
        None,
        ProducerMetrics::default(),
    )
}

/// The producers of a cluster whose only broker refuses connections: port 1 is privileged, and no test binds it.
fn unreachable() -> ReplyProducers {
    let cluster = Arc::new(Cluster::new(
        "test",
        vec!["127.0.0.1:1".to_owned()],
        kafka::Security::default(),
        Vec::new(),
    ));
    let health_check = Readiness::default().health_check("outbox");
    let metrics = ProducerMetrics::default();
    let topics = vec!["pong".to_owned()];
    ReplyProducers::new(&cluster, &Tasks::default(), topics, callback(), health_check, metrics)
}

/// Sends more than the buffer of one producer holds.
async fn overfill(
    producers: &ReplyProducers,
    address: Option<(&str, i32)>,
    is_wanted: impl Fn() -> bool,
) -> Result<(), Rejected> {
    let permits = Arc::new(Semaphore::new(5));
    for _ in 0..5 {
        let record = Record::new(Vec::new(), vec![0; BUFFER_BYTES / 4]);
        let permit = Arc::clone(&permits).try_acquire_owned().unwrap();
        let token = DeliveryToken::Heartbeat(permit);
        producers.send(address, record, token, &is_wanted).await?;
    }
    Ok(())
}

#[tokio::test]
async fn unreachable_partition_is_waited_for_while_the_reply_is_wanted() {
    let producers = unreachable();
    producers.shared.metadata.lock().update("pong", [0, 1].into());
    let addresses = [None, Some(("pong", 1))];
    for address in addresses {
        let sent = timeout(Duration::from_secs(5), overfill(&producers, address, || true)).await;
        assert!(sent.is_err(), "no partition is reachable, {address:?}: {sent:?}");
    }
    for address in addresses {
        let sent = timeout(TEST_TIMEOUT, overfill(&producers, address, || false)).await;
        assert_eq!(sent, Ok(Err(Rejected::BufferFull)), "not wanted, {address:?}");
    }
}

#[tokio::test]
async fn reply_is_returned_when_its_producer_is_not_open_or_full() {
    let producers = unreachable();
    let permits = Arc::new(Semaphore::new(9));
    let try_send = |address| {
        let token = DeliveryToken::Heartbeat(Arc::clone(&permits).try_acquire_owned().unwrap());
        producers.try_send(address, Record::new(vec![7], vec![0; BUFFER_BYTES / 4]), token)
    };
    assert!(try_send(Some(("pong", 1))).is_some(), "its producer is not open");
    let taken = (0..5).take_while(|_| try_send(None).is_none()).count();
    assert_eq!(taken, 3, "a record is larger than its value");
    let (record, token) = try_send(None).unwrap();
    assert_eq!(record.key, Some(vec![7]));
    let sent = timeout(TEST_TIMEOUT, producers.send(None, record, token, || false)).await;
    assert_eq!(sent, Ok(Err(Rejected::BufferFull)));
}

#[tokio::test]
async fn reply_after_the_close_is_given_up() {
    let producers = unreachable();
    producers.shared.metadata.lock().update("pong", [0, 1].into());
    producers.shared.open("pong", 1);
    producers.close(Duration::ZERO).await;
    let offsets = Arc::new(kafka::OffsetTracker::default());
    offsets.fetched(0..2, 2, None);
    for (offset, address) in [(0, None), (1, Some(("pong", 1)))] {
        let token = DeliveryToken::Reply(offsets.in_flight(offset));
        let sent = producers.send(address, Record::new(Vec::new(), Vec::new()), token, || true);
        assert_eq!(timeout(TEST_TIMEOUT, sent).await, Ok(Ok(())));
    }
    assert_eq!(offsets.committable(), Some(0), "neither request is acknowledged");
}

#[tokio::test]
async fn metadata_timeout_rejects_the_reply() {
    let producers = unreachable();
    for (topic, limit) in [
        ("other", FOREIGN_METADATA_TIMEOUT),
        ("pong", METADATA_TIMEOUT),
        ("another", FOREIGN_METADATA_TIMEOUT),
    ] {
        let begin = Instant::now();
        let sent = timeout(limit + TEST_TIMEOUT, overfill(&producers, Some((topic, 1)), || true)).await;
        assert_eq!(sent, Ok(Err(Rejected::NoMetadata)), "{topic}");
        assert!(begin.elapsed() >= limit, "{topic}");
        // Longer than the outcome is cached.
        tokio::time::sleep(METADATA_MAX_AGE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn metadata_outcome_is_cached_for_1_s() {
    let mut metadata = MetadataCache::default();
    let unknown = Some(Err(Rejected::UnknownPartition));
    let unavailable = Some(Err(Rejected::NoMetadata));
    assert_eq!(metadata.lookup("pong", 1, false), None);
    metadata.fail(true);
    assert_eq!(metadata.lookup("other", 0, true), unavailable);
    assert_eq!(
        metadata.lookup("pong", 1, false),
        None,
        "our topic has a longer time limit"
    );
    metadata.fail(false);
    assert_eq!(metadata.lookup("pong", 1, false), unavailable);
    metadata.update("pong", [0, 1].into());
    assert_eq!(metadata.lookup("pong", 1, false), Some(Ok(())));
    assert_eq!(metadata.lookup("pong", 2, false), unknown);
    tokio::time::advance(METADATA_MAX_AGE).await;
    assert_eq!(metadata.lookup("pong", 1, false), Some(Ok(())));
    assert_eq!(metadata.lookup("pong", 2, false), None);
}

#[tokio::test]
async fn removed_partition_is_closed_and_takes_no_more_replies() {
    let producers = unreachable();
    let shared = &producers.shared;
    shared.metadata.lock().update("pong", [0, 1, 2].into());
    let (kept, removed) = (shared.open("pong", 1), shared.open("pong", 2));
    producers.remove_partitions("pong", &[2].into());
    assert!(shared.pool.lock().get("pong", 1).is_some() && shared.pool.lock().get("pong", 2).is_none());
    let known = |partition| shared.metadata.lock().lookup("pong", partition, false);
    assert_eq!(
        (known(1), known(2)),
        (Some(Ok(())), Some(Err(Rejected::UnknownPartition)))
    );
    // Its task closes it; a closed producer takes nothing.
    let permits = Arc::new(Semaphore::new(1_000));
    let takes = |producer: &Producer| {
        let token = DeliveryToken::Heartbeat(Arc::clone(&permits).try_acquire_owned().unwrap());
        producer
            .try_send(Record::new(Vec::new(), Vec::new()), token, None)
            .is_ok()
    };
    let closed = async {
        while takes(&removed) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(TEST_TIMEOUT, closed).await.unwrap();
    assert!(takes(&kept));
}

#[test]
fn producers_of_foreign_topics_are_evicted_first() {
    let mut pool = ProducerPool::new(&["pong".to_owned()]);
    assert!(pool.insert("pong", 1, producer()).is_none());
    let evicting = (0..1_000).find(|partition| pool.insert("other", *partition, producer()).is_some());
    // 63 beside the default one, and one of them is ours.
    assert_eq!(evicting, Some(62));
    assert!(pool.can_open_without_eviction("other", 62) && !pool.can_open_without_eviction("other", 63));
    assert!(pool.get("pong", 1).is_some(), "the least recently used of all");
    assert!(
        pool.get("other", 0).is_none(),
        "the least recently used of the foreign ones"
    );
    assert!(pool.get("other", 1).is_some());
}
