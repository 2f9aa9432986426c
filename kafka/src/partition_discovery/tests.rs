use std::pin::pin;

use kafka_protocol::{
    error::ResponseError,
    messages::{
        ApiKey, MetadataResponse,
        metadata_response::{MetadataResponsePartition, MetadataResponseTopic},
    },
};
use parking_lot::Mutex;

use super::*;
use crate::scripted_broker::{Reaction, ReceivedRequest, ScriptedBroker, versions};

/// A bound for a busy machine.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// The partitions of the topic; `None` while it is missing.
type Topic = Arc<Mutex<Option<BTreeSet<i32>>>>;

fn described(topic: &Topic, request: &ReceivedRequest) -> Reaction {
    let answer = match &*topic.lock() {
        None => MetadataResponseTopic::default().with_error_code(ResponseError::UnknownTopicOrPartition.code()),
        Some(partitions) => {
            let partition = |number: &i32| MetadataResponsePartition::default().with_partition_index(*number);
            MetadataResponseTopic::default().with_partitions(partitions.iter().map(partition).collect())
        }
    };
    request.answer(&MetadataResponse::default().with_topics(vec![answer]))
}

async fn broker(partitions: &[i32]) -> (ScriptedBroker, Topic) {
    let topic: Topic = Arc::new(Mutex::new(Some(set(partitions))));
    let shown = Arc::clone(&topic);
    let broker = ScriptedBroker::new(move |request, _| match request.key {
        ApiKey::ApiVersions => request.answer(&versions(&[ApiKey::Metadata])),
        _ => described(&shown, request),
    });
    (broker.await, topic)
}

fn set(partitions: &[i32]) -> BTreeSet<i32> {
    partitions.iter().copied().collect()
}

/// Waits for a future, and skips the time until the next metadata request.
async fn after_interval<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let skip = async {
        // Until the metadata loop has gone to sleep.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        tokio::time::pause();
        tokio::time::advance(METADATA_INTERVAL).await;
        tokio::time::resume();
        std::future::pending::<()>().await;
    };
    let changed = async {
        tokio::select! {
            changed = &mut future => changed,
            () = skip => unreachable!("it never ends"),
        }
    };
    tokio::time::timeout(METADATA_INTERVAL + TEST_TIMEOUT, changed)
        .await
        .unwrap()
}

#[tokio::test]
async fn partitions_are_assigned_and_revoked_as_the_topic_changes() {
    let (broker, topic) = broker(&[0, 1, 2]).await;
    let cluster = Arc::new(broker.cluster());
    let mut discovery = PartitionDiscovery::new(&cluster, "ping", Partitions::All);
    assert_eq!(discovery.next().await, Rebalance::Assigned(set(&[0, 1, 2])));
    *topic.lock() = Some(set(&[0]));
    assert_eq!(after_interval(discovery.next()).await, Rebalance::Revoked(set(&[1, 2])));
    *topic.lock() = Some(set(&[0, 1]));
    assert_eq!(after_interval(discovery.next()).await, Rebalance::Assigned(set(&[1])));
}

#[tokio::test]
async fn partitions_of_a_missing_topic_are_kept() {
    let (broker, topic) = broker(&[0, 1]).await;
    let cluster = Arc::new(broker.cluster());
    let mut discovery = PartitionDiscovery::new(&cluster, "ping", Partitions::All);
    discovery.next().await;
    *topic.lock() = None;
    let recreate = async {
        let before = broker.requests(ApiKey::Metadata).len();
        while broker.requests(ApiKey::Metadata).len() < before + 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        *topic.lock() = Some(set(&[0]));
    };
    let (change, ()) = tokio::join!(after_interval(discovery.next()), recreate);
    assert_eq!(change, Rebalance::Revoked(set(&[1])));
}

#[tokio::test]
async fn removal_waits_for_its_own_partition() {
    let (broker, topic) = broker(&[0, 1, 2]).await;
    let cluster = Arc::new(broker.cluster());
    let mut removal = pin!(PartitionDiscovery::removal(&cluster, "pong", 1));
    let others = async {
        while broker.requests(ApiKey::Metadata).is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = after_interval(&mut removal) => panic!("it is still there"),
        () = others => {}
    }
    *topic.lock() = Some(set(&[0]));
    after_interval(removal).await;
}

#[tokio::test]
async fn listed_partitions_are_assigned_once_and_never_revoked() {
    let (broker, _topic) = broker(&[0]).await;
    let listed = Partitions::Listed(set(&[3, 5]));
    let mut discovery = PartitionDiscovery::new(&Arc::new(broker.cluster()), "ping", listed);
    assert_eq!(discovery.next().await, Rebalance::Assigned(set(&[3, 5])));
    assert!(
        tokio::time::timeout(Duration::from_millis(10), discovery.next())
            .await
            .is_err()
    );
    assert!(broker.requests(ApiKey::Metadata).is_empty());
}
