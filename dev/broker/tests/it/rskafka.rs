//! rskafka as the client.

use std::time::Duration;

use ::rskafka::client::{
    error::{Error, ProtocolError},
    partition::{Compression, OffsetAt, UnknownTopicHandling},
};
use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::support::{TIMEOUT, record, start, within};

fn error_of<T: std::fmt::Debug>(result: Result<T, Error>) -> ProtocolError {
    match result.unwrap_err() {
        Error::ServerError { protocol_error, .. } => protocol_error,
        other => panic!("no server error: {other:?}"),
    }
}

#[tokio::test]
async fn produced_records_are_fetched() {
    let broker = start().await;
    let topic = broker.topic("ping", 3).await;
    for index in 0..3 {
        let partition = topic.partition(index).await;
        assert_eq!(partition.values(0).await, (vec![], 0));
        assert_eq!(partition.write(&["a", "b"]).await, [0, 1]);
        assert_eq!(partition.write(&["c"]).await, [2]);
        assert_eq!(partition.values(0).await, (vec!["a".into(), "b".into(), "c".into()], 3));
        assert_eq!(partition.values(1).await, (vec!["b".into(), "c".into()], 3));
        assert_eq!(partition.values(3).await, (vec![], 3));
    }
    broker.stop().await;
}

#[tokio::test]
async fn compressed_batches_are_stored_unchanged() {
    let broker = start().await;
    let partition = broker.topic("ping", 1).await.partition(0).await;
    for codec in [Compression::Gzip, Compression::Snappy, Compression::NoCompression] {
        let records = vec![record(&"x".repeat(1000), Utc::now()); 10];
        within(partition.produce(records, codec)).await.unwrap();
    }
    let (values, end) = partition.values(0).await;
    assert_eq!((values.len(), end), (30, 30));
    assert!(values.iter().all(|value| *value == "x".repeat(1000)));
}

#[tokio::test]
async fn list_offsets_by_timestamp_and_delete_records() {
    let broker = start().await;
    let partition = broker.topic("ping", 1).await.partition(0).await;
    let at = |milliseconds| DateTime::<Utc>::from_timestamp_millis(milliseconds).unwrap();
    for (first, second) in [(1000, 2000), (3000, 4000)] {
        let records = vec![record("a", at(first)), record("b", at(second))];
        within(partition.produce(records, Compression::NoCompression))
            .await
            .unwrap();
    }
    let cases = [
        (OffsetAt::Earliest, 0),
        (OffsetAt::Latest, 4),
        (OffsetAt::Timestamp(at(0)), 0),
        (OffsetAt::Timestamp(at(1001)), 1),
        (OffsetAt::Timestamp(at(4000)), 3),
        (OffsetAt::Timestamp(at(4001)), -1),
    ];
    for (spec, offset) in cases {
        assert_eq!(within(partition.get_offset(spec)).await.unwrap(), offset, "{spec:?}");
    }
    within(partition.delete_records(2, 1000)).await.unwrap();
    assert_eq!(within(partition.get_offset(OffsetAt::Earliest)).await.unwrap(), 2);
    assert_eq!(
        error_of(within(partition.fetch_records(1, 1..1000, 0)).await),
        ProtocolError::OffsetOutOfRange
    );
    assert_eq!(
        error_of(within(partition.fetch_records(5, 1..1000, 0)).await),
        ProtocolError::OffsetOutOfRange
    );
    assert_eq!(partition.values(2).await.1, 4);
}

#[tokio::test]
async fn create_topics_validates_name_partitions_and_replicas() {
    let broker = start().await;
    let client = broker.client().await;
    let controller = client.controller_client().unwrap();
    let unknown = within(client.partition_client("unknown", 0, UnknownTopicHandling::Error)).await;
    assert_eq!(error_of(unknown.map(drop)), ProtocolError::UnknownTopicOrPartition);
    assert!(within(client.list_topics()).await.unwrap().is_empty());

    within(controller.create_topic("ping", 2, 1, 1000)).await.unwrap();
    let again = within(controller.create_topic("ping", 2, 1, 1000)).await;
    assert_eq!(error_of(again), ProtocolError::TopicAlreadyExists);
    for (name, partitions, replicas, error) in [
        ("a b", 1, 1, ProtocolError::InvalidTopicException),
        ("none", 0, 1, ProtocolError::InvalidPartitions),
        ("neither", 0, 2, ProtocolError::InvalidPartitions),
        ("neither", 0, 0, ProtocolError::InvalidReplicationFactor),
        ("huge", i32::MAX, 1, ProtocolError::InvalidPartitions),
        ("copies", 1, 2, ProtocolError::InvalidReplicationFactor),
    ] {
        let refused = within(controller.create_topic(name, partitions, replicas, 1000)).await;
        assert_eq!(error_of(refused), error, "{name}");
    }
    let topics = within(client.list_topics()).await.unwrap();
    assert_eq!(topics.len(), 1);
    assert_eq!(topics[0].partitions.len(), 2);
}

#[tokio::test]
async fn recreated_topic_is_empty() {
    let broker = start().await;
    let topic = broker.topic("ping", 1).await;
    let partition = topic.partition(0).await;
    partition.write(&["old"]).await;
    let controller = topic.client.controller_client().unwrap();
    within(controller.delete_topic("ping", 1000)).await.unwrap();
    let gone = within(controller.delete_topic("ping", 1000)).await;
    assert_eq!(error_of(gone), ProtocolError::UnknownTopicOrPartition);
    let unknown = within(partition.fetch_records(0, 1..1000, 0)).await;
    assert_eq!(error_of(unknown), ProtocolError::UnknownTopicOrPartition);
    within(controller.create_topic("ping", 1, 1, 1000)).await.unwrap();
    assert_eq!(partition.values(0).await, (vec![], 0));
    assert_eq!(partition.write(&["new"]).await, [0]);
}

#[tokio::test]
async fn produce_wakes_a_waiting_fetch() {
    let broker = start().await;
    let topic = broker.topic("ping", 1).await;
    let (reader, writer) = (topic.partition(0).await, topic.partition(0).await);
    let mut latencies = Vec::new();
    for offset in 0..50 {
        let (read, written) = tokio::join!(
            async {
                let read = within(reader.fetch_records(offset, 1..1_000_000, 5000)).await.unwrap();
                (read, Instant::now())
            },
            async {
                // The fetch waits by now in most rounds.
                tokio::task::yield_now().await;
                let produced_at = Instant::now();
                writer.write(&["x"]).await;
                produced_at
            }
        );
        let ((records, _), received) = read;
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].offset, offset);
        latencies.push(received.duration_since(written));
    }
    latencies.sort();
    assert!(
        latencies[25] < Duration::from_millis(20),
        "half of them took {:?}",
        latencies[25]
    );
}

#[tokio::test]
async fn too_large_batch_gets_message_too_large() {
    let broker = start().await;
    let partition = broker.topic("ping", 1).await.partition(0).await;
    let large = vec![record(&"x".repeat(1_100_000), Utc::now())];
    let refused = within(partition.produce(large, Compression::NoCompression)).await;
    assert_eq!(error_of(refused), ProtocolError::MessageTooLarge);
    let fits = vec![record(&"x".repeat(1_048_000), Utc::now())];
    within(partition.produce(fits, Compression::NoCompression))
        .await
        .unwrap();
    // KIP-74: the first batch may exceed the limit.
    let (records, _) = within(partition.fetch_records(0, 1..2, 0)).await.unwrap();
    assert_eq!(records.len(), 1);
}

#[tokio::test]
async fn retention_bytes_deletes_old_batches() {
    let mut config = broker::Config::default();
    config.retention_bytes = 1 << 20;
    let broker = crate::support::start_with(config).await;
    let partition = broker.topic("ping", 1).await.partition(0).await;
    for _ in 0..30 {
        let records = vec![record(&"x".repeat(100_000), Utc::now())];
        within(partition.produce(records, Compression::NoCompression))
            .await
            .unwrap();
    }
    assert_eq!(within(partition.get_offset(OffsetAt::Earliest)).await.unwrap(), 20);
    assert_eq!(within(partition.get_offset(OffsetAt::Latest)).await.unwrap(), 30);
    assert_eq!(partition.values(20).await.1, 30);
}

#[tokio::test]
async fn shutdown_closes_port_and_connections() {
    let broker = start().await;
    let addr = broker.addr;
    broker.topic("ping", 1).await;
    let (mut idle, mut waiting) = (broker.connect().await, broker.connect().await);
    waiting
        .send(crate::fetch::VERSION, &crate::fetch::fetch("ping", &[(0, 0)], 60_000))
        .await;
    broker.stop().await;
    assert!(idle.frame().await.is_none());
    assert!(waiting.frame().await.is_none());
    let again = tokio::time::timeout(TIMEOUT, broker::Broker::bind(addr)).await.unwrap();
    assert_eq!(again.unwrap().local_addr(), addr);
}
