//! Fetch and Produce, frame by frame: waits, limits, errors, and the order of responses.

use std::time::Duration;

use broker::Config;
use bytes::Bytes;
use kafka_protocol::messages::{
    FetchRequest, FetchResponse, MetadataRequest, ProduceRequest,
    fetch_request::{FetchPartition, FetchTopic},
    metadata_request::MetadataRequestTopic,
    produce_request::{PartitionProduceData, TopicProduceData},
};
use tokio::{io::AsyncWriteExt, time::Instant};

use crate::support::{TestBroker, frame, name, start, start_with, within};

pub(crate) const VERSION: i16 = 11;

/// A fetch of these (partition, offset) pairs.
pub(crate) fn fetch(topic: &str, at: &[(i32, i64)], max_wait_ms: i32) -> FetchRequest {
    let partitions = at.iter().map(|(index, offset)| {
        let partition = FetchPartition::default()
            .with_partition(*index)
            .with_fetch_offset(*offset);
        partition.with_partition_max_bytes(1 << 20)
    });
    FetchRequest::default()
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_topics(vec![
            FetchTopic::default()
                .with_topic(name(topic))
                .with_partitions(partitions.collect()),
        ])
}

/// The error code and the size of the records of each partition.
fn parts(response: &FetchResponse) -> Vec<(i16, usize)> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions
        .map(|data| (data.error_code, data.records.as_ref().map_or(0, Bytes::len)))
        .collect()
}

/// The stored records of partition 0.
async fn stored(broker: &TestBroker, topic: &str) -> Bytes {
    let mut connection = broker.connect().await;
    let response = connection.call(VERSION, &fetch(topic, &[(0, 0)], 0)).await;
    response.responses[0].partitions[0].records.clone().unwrap()
}

fn produce(topic: &str, acks: i16, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_records(Some(records));
    let topic = TopicProduceData::default()
        .with_name(name(topic))
        .with_partition_data(vec![data]);
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(1000)
        .with_topic_data(vec![topic])
}

#[tokio::test]
async fn fetch_waits_for_max_wait_ms() {
    let broker = start().await;
    broker.topic("ping", 1).await;
    let mut connection = broker.connect().await;
    for wait in [0, 1, 50, 200] {
        let least = Duration::from_millis(u64::try_from(wait).unwrap());
        let mut best = Duration::MAX;
        // The machine may be busy: the best of five counts.
        for _ in 0..5 {
            let sent_at = Instant::now();
            let response = connection.call(VERSION, &fetch("ping", &[(0, 0)], wait)).await;
            best = best.min(sent_at.elapsed());
            assert_eq!(parts(&response), [(0, 0)]);
            assert!(best >= least, "{best:?} instead of {least:?}");
        }
        // Timers have a resolution of 1 ms.
        assert!(
            best < least + Duration::from_millis(20),
            "{best:?} instead of {least:?}"
        );
    }
}

#[tokio::test]
async fn partition_error_ends_the_wait() {
    let broker = start().await;
    broker.topic("ping", 1).await;
    let mut connection = broker.connect().await;
    for (topic, at, error) in [
        ("pong", (0, 0), 3),
        ("ping", (1, 0), 3),
        ("ping", (-1, 0), 3),
        ("ping", (0, 1), 1),
    ] {
        let response = connection.call(VERSION, &fetch(topic, &[(0, 0), at], 60_000)).await;
        assert_eq!(parts(&response)[1].0, error, "{topic} {at:?}");
    }
}

#[tokio::test]
async fn produce_to_any_partition_wakes_the_fetch() {
    let broker = start().await;
    let topic = broker.topic("ping", 3).await;
    let writer = topic.partition(2).await;
    let mut connection = broker.connect().await;
    connection
        .send(VERSION, &fetch("ping", &[(0, 0), (1, 0), (2, 0)], 60_000))
        .await;
    writer.write(&["x"]).await;
    let response = connection.receive::<FetchRequest>(VERSION).await;
    let parts = parts(&response);
    assert_eq!((parts[0], parts[1]), ((0, 0), (0, 0)));
    assert!(parts[2].1 > 0);
}

#[tokio::test]
async fn topic_deletion_ends_the_wait() {
    let broker = start().await;
    let topic = broker.topic("ping", 1).await;
    let mut connection = broker.connect().await;
    connection.send(VERSION, &fetch("ping", &[(0, 0)], 60_000)).await;
    within(topic.client.controller_client().unwrap().delete_topic("ping", 1000))
        .await
        .unwrap();
    assert_eq!(parts(&connection.receive::<FetchRequest>(VERSION).await), [(3, 0)]);
}

#[tokio::test]
async fn fetch_waits_for_min_bytes() {
    let broker = start().await;
    let partition = broker.topic("ping", 1).await.partition(0).await;
    partition.write(&["x"]).await;
    let one = i32::try_from(stored(&broker, "ping").await.len()).unwrap();
    let mut connection = broker.connect().await;
    connection
        .send(VERSION, &fetch("ping", &[(0, 0)], 60_000).with_min_bytes(3 * one))
        .await;
    partition.write(&["x"]).await;
    partition.write(&["x"]).await;
    let response = connection.receive::<FetchRequest>(VERSION).await;
    assert_eq!(parts(&response), [(0, usize::try_from(3 * one).unwrap())]);
    // As in Kafka, max_bytes caps min_bytes.
    let request = fetch("ping", &[(0, 0)], 60_000)
        .with_min_bytes(i32::MAX)
        .with_max_bytes(2 * one);
    let response = connection.call(VERSION, &request).await;
    assert_eq!(parts(&response), [(0, usize::try_from(2 * one).unwrap())]);
}

#[tokio::test]
async fn max_bytes_holds_except_for_the_first_batch() {
    let broker = start().await;
    let topic = broker.topic("ping", 2).await;
    for index in 0..2 {
        let partition = topic.partition(index).await;
        partition.write(&["x"]).await;
        partition.write(&["x"]).await;
    }
    let one = stored(&broker, "ping").await.len() / 2;
    let limit = i32::try_from(one).unwrap();
    let mut connection = broker.connect().await;
    let both = || fetch("ping", &[(0, 0), (1, 0)], 0);
    for (max_bytes, given) in [
        (1, [1, 0]),
        (limit, [1, 0]),
        (3 * limit, [2, 1]),
        (4 * limit, [2, 2]),
        (-1, [1, 0]),
    ] {
        let response = connection.call(VERSION, &both().with_max_bytes(max_bytes)).await;
        assert_eq!(
            parts(&response),
            given.map(|batches| (0, batches * one)),
            "at most {max_bytes}"
        );
    }
    let mut request = both();
    request.topics[0].partitions[0].partition_max_bytes = 1;
    request.topics[0].partitions[1].partition_max_bytes = limit;
    assert_eq!(parts(&connection.call(VERSION, &request).await), [(0, one), (0, one)]);
}

#[tokio::test]
async fn responses_keep_the_order_of_requests() {
    let broker = start().await;
    let partition = broker.topic("ping", 1).await.partition(0).await;
    let mut connection = broker.connect().await;
    let mut frames = Vec::new();
    frames.extend_from_slice(&frame(5, 1, &MetadataRequest::default()));
    frames.extend_from_slice(&frame(VERSION, 2, &fetch("ping", &[(0, 0)], 60_000)));
    frames.extend_from_slice(&frame(5, 3, &MetadataRequest::default()));
    within(connection.stream.write_all(&frames)).await.unwrap();
    let id = |frame: Bytes| i32::from_be_bytes(frame[..4].try_into().unwrap());
    assert_eq!(
        id(connection.frame().await.unwrap()),
        1,
        "a finished response is not held back"
    );
    partition.write(&["x"]).await;
    assert_eq!(id(connection.frame().await.unwrap()), 2);
    assert_eq!(id(connection.frame().await.unwrap()), 3);
}

#[tokio::test]
async fn acks_0_gets_no_response_and_an_error_disconnects() {
    let broker = start().await;
    let topic = broker.topic("ping", 1).await;
    topic.partition(0).await.write(&["x"]).await;
    let batch = stored(&broker, "ping").await;
    let mut connection = broker.connect().await;
    connection.send(7, &produce("ping", 0, batch.clone())).await;
    // The next response is that of the next request.
    let metadata = connection.call(3, &MetadataRequest::default().with_topics(None)).await;
    assert_eq!(metadata.topics.len(), 1);
    assert_eq!(topic.partition(0).await.values(0).await.0, ["x", "x"]);
    connection.send(7, &produce("pong", 0, batch)).await;
    assert!(connection.frame().await.is_none());
}

#[tokio::test]
async fn corrupt_batch_fails_alone() {
    let broker = start().await;
    broker.topic("ping", 1).await.partition(0).await.write(&["x"]).await;
    let batch = stored(&broker, "ping").await;
    let mut corrupt = batch.to_vec();
    *corrupt.last_mut().unwrap() ^= 1;
    let mut request = produce("ping", -1, corrupt.into());
    let valid = PartitionProduceData::default().with_records(Some(batch.clone()));
    let missing = valid.clone().with_index(1);
    request.topic_data[0].partition_data.extend([valid, missing]);
    let mut connection = broker.connect().await;
    let response = connection.call(7, &request).await;
    let partitions: Vec<_> = response.responses[0]
        .partition_responses
        .iter()
        .map(|partition| (partition.error_code, partition.base_offset))
        .collect();
    assert_eq!(partitions, [(2, -1), (0, 1), (3, -1)]);
    let response = connection.call(7, &produce("ping", 2, batch)).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 21);
}

#[tokio::test]
async fn fetch_session_is_declined() {
    let broker = start().await;
    broker.topic("ping", 1).await;
    let mut connection = broker.connect().await;
    let full = fetch("ping", &[(0, 0)], 0).with_session_epoch(0);
    let response = connection.call(VERSION, &full).await;
    assert_eq!((response.error_code, response.session_id), (0, 0));
    let incremental = full.with_session_id(5).with_session_epoch(1);
    let response = connection.call(VERSION, &incremental).await;
    assert_eq!((response.error_code, response.responses.len()), (70, 0));
}

#[tokio::test]
async fn fetch_and_produce_v13_use_topic_ids() {
    let broker = start().await;
    broker.topic("ping", 1).await.partition(0).await.write(&["x"]).await;
    let mut connection = broker.connect().await;
    let named = MetadataRequestTopic::default().with_name(Some(name("ping")));
    let metadata = connection
        .call(12, &MetadataRequest::default().with_topics(Some(vec![named])))
        .await;
    let id = metadata.topics[0].topic_id;
    assert!(!id.is_nil());
    let by_id = MetadataRequestTopic::default().with_name(None).with_topic_id(id);
    let metadata = connection
        .call(12, &MetadataRequest::default().with_topics(Some(vec![by_id])))
        .await;
    assert_eq!(metadata.topics[0].name, Some(name("ping")));

    let mut request = fetch("", &[(0, 0)], 0);
    request.topics[0].topic_id = id;
    let response = connection.call(16, &request).await;
    assert_eq!((response.responses[0].topic_id, parts(&response)[0].0), (id, 0));
    let batch = response.responses[0].partitions[0].records.clone().unwrap();
    let mut request = produce("", -1, batch);
    request.topic_data[0].topic_id = id;
    let response = connection.call(13, &request).await;
    assert_eq!(response.responses[0].partition_responses[0].base_offset, 1);

    request.topic_data[0].topic_id = uuid::Uuid::from_u128(1);
    let response = connection.call(13, &request).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 100);
}

#[tokio::test]
async fn metadata_auto_creates_topic_if_allowed() {
    let mut config = Config::default();
    config.auto_create_topics = true;
    config.default_partitions = 2;
    let broker = start_with(config).await;
    let mut connection = broker.connect().await;
    let request = |allowed| {
        let topic = MetadataRequestTopic::default().with_name(Some(name("ping")));
        MetadataRequest::default()
            .with_topics(Some(vec![topic]))
            .with_allow_auto_topic_creation(allowed)
    };
    assert_eq!(connection.call(9, &request(false)).await.topics[0].error_code, 3);
    let created = connection.call(9, &request(true)).await;
    assert_eq!(
        (created.topics[0].error_code, created.topics[0].partitions.len()),
        (0, 2)
    );
    let invalid = MetadataRequestTopic::default().with_name(Some(name("a b")));
    let invalid = connection
        .call(9, &MetadataRequest::default().with_topics(Some(vec![invalid])))
        .await;
    assert_eq!(invalid.topics[0].error_code, 17);
}

#[tokio::test]
async fn waiting_fetch_ends_with_its_connection() {
    let broker = start().await;
    let partition = broker.topic("ping", 1).await.partition(0).await;
    for _ in 0..20 {
        let mut connection = broker.connect().await;
        connection.send(VERSION, &fetch("ping", &[(0, 0)], i32::MAX)).await;
        within(connection.stream.shutdown()).await.unwrap();
        assert!(connection.frame().await.is_none());
    }
    assert_eq!(partition.write(&["x"]).await, [0]);
}
