//! Each injected fault, as a client sees it.

use std::time::Duration;

use ::rskafka::client::{
    ClientBuilder,
    partition::{Compression, OffsetAt, UnknownTopicHandling},
};
use broker::{ApiKey, Faults, Poison, ResponseError};
use chrono::Utc;
use kafka_protocol::messages::{FetchRequest, MetadataRequest};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    fetch::{VERSION, fetch},
    support::{record, start, within},
};

/// Wait for a response that must not come.
const NO_RESPONSE: Duration = Duration::from_millis(100);

/// Waits for this many requests of an API.
async fn wait_for_requests(faults: &Faults, api: ApiKey, requests: usize) {
    within(async {
        while faults.seen(api) < requests {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn refused_requests_have_no_effect() {
    let broker = start().await;
    let partition = broker.topic("ping", 1).await.partition(0).await;
    broker
        .faults
        .refuse(ApiKey::Produce, ResponseError::NotEnoughReplicas, 2);
    let before = broker.faults.seen(ApiKey::Produce);
    for _ in 0..2 {
        let records = vec![record("x", Utc::now())];
        assert!(
            within(partition.produce(records, Compression::NoCompression))
                .await
                .is_err()
        );
    }
    assert_eq!(partition.write(&["x"]).await, [0]);
    assert_eq!(broker.faults.seen(ApiKey::Produce), before + 3);
}

#[tokio::test]
async fn error_is_in_every_part_of_the_response() {
    let broker = start().await;
    broker.topic("ping", 1).await;
    for api in [ApiKey::Fetch, ApiKey::Metadata] {
        broker.faults.refuse(api, ResponseError::UnknownServerError, 1);
    }
    let mut connection = broker.connect().await;
    let fetched = connection.call(VERSION, &fetch("ping", &[(0, 0)], 60_000)).await;
    assert_eq!(fetched.responses[0].partitions[0].error_code, -1);
    let metadata = connection.call(9, &MetadataRequest::default().with_topics(None)).await;
    assert_eq!(metadata.topics[0].error_code, -1);
}

#[tokio::test]
async fn request_on_dropped_connection_has_no_effect() {
    let broker = start().await;
    // rskafka retries when the connection breaks, and is not an idempotent producer.
    let partition = broker.topic("ping", 1).await.partition(0).await;
    broker.faults.drop_before(ApiKey::Produce, 1);
    assert_eq!(partition.write(&["x"]).await, [0]);
    assert_eq!(broker.faults.offsets("ping", 0).unwrap(), 0..1);
}

#[tokio::test]
async fn paused_broker_handles_requests_after_resume() {
    let broker = start().await;
    let partition = broker.topic("ping", 1).await.partition(0).await;
    let mut waiting = broker.connect().await;
    waiting.send(VERSION, &fetch("ping", &[(0, 0)], 50)).await;
    wait_for_requests(&broker.faults, ApiKey::Fetch, 1).await;
    broker.faults.pause();
    let mut connection = broker.connect().await;
    connection.send(5, &MetadataRequest::default()).await;
    let write = tokio::spawn(async move { partition.write(&["x"]).await });
    assert!(timeout(NO_RESPONSE, connection.frame()).await.is_err());
    assert!(timeout(NO_RESPONSE, waiting.frame()).await.is_err());
    assert_eq!(broker.faults.offsets("ping", 0).unwrap(), 0..0);
    broker.faults.resume();
    connection.receive::<MetadataRequest>(5).await;
    waiting.receive::<FetchRequest>(VERSION).await;
    assert_eq!(within(write).await.unwrap(), [0]);
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let broker = start().await;
    broker.topic("ping", 1).await;
    let (mut idle, mut busy) = (broker.connect().await, broker.connect().await);
    busy.send(VERSION, &fetch("ping", &[(0, 0)], 400)).await;
    broker.faults.close_idle_after(Some(Duration::from_millis(100)));
    let sent_at = Instant::now();
    assert!(idle.frame().await.is_none());
    assert!(sent_at.elapsed() >= Duration::from_millis(90));
    busy.receive::<FetchRequest>(VERSION).await;
    broker.faults.heal();
    busy.call(5, &MetadataRequest::default()).await;
}

#[tokio::test]
async fn disconnect_closes_present_connections_only() {
    let broker = start().await;
    let mut connection = broker.connect().await;
    connection.call(5, &MetadataRequest::default()).await;
    broker.faults.disconnect();
    assert!(connection.frame().await.is_none());
    broker.connect().await.call(5, &MetadataRequest::default()).await;
}

#[tokio::test]
async fn old_leader_responds_not_leader_or_follower() {
    let broker = start().await;
    let topic = broker.topic("ping", 2).await;
    let partition = topic.partition(0).await;
    partition.write(&["x"]).await;
    let mut old = broker.connect().await;
    old.send(VERSION, &fetch("ping", &[(0, 1)], 60_000)).await;
    wait_for_requests(&broker.faults, ApiKey::Fetch, 1).await;
    assert_eq!(
        broker.faults.move_leader("ping", 0, 2),
        Err(ResponseError::BrokerNotAvailable)
    );
    let (node, addr) = within(broker.faults.add_node()).await.unwrap();
    broker.faults.move_leader("ping", 0, node).unwrap();
    let moved = old.receive::<FetchRequest>(VERSION).await;
    assert_eq!(moved.responses[0].partitions[0].error_code, 6);

    let metadata = old.call(9, &MetadataRequest::default().with_topics(None)).await;
    let ports: Vec<_> = metadata.brokers.iter().map(|broker| broker.port).collect();
    assert_eq!(ports, [i32::from(broker.addr.port()), i32::from(addr.port())]);
    let leaders = metadata.topics[0].partitions.iter();
    let leaders: Vec<_> = leaders
        .map(|partition| (partition.leader_id.0, partition.leader_epoch))
        .collect();
    assert_eq!(leaders, [(2, 1), (1, 0)]);

    // A new client finds the new leader, with the same log.
    let client = broker.client().await;
    let moved = crate::support::Topic {
        name: "ping".into(),
        client: client.into(),
    }
    .partition(0)
    .await;
    assert_eq!(moved.write(&["y"]).await, [1]);
    assert_eq!(moved.values(0).await.0, ["x", "y"]);
}

#[tokio::test]
async fn truncated_log_is_shorter() {
    let broker = start().await;
    let partition = broker.topic("ping", 1).await.partition(0).await;
    for value in ["a", "b", "c"] {
        partition.write(&[value]).await;
    }
    broker.faults.truncate("ping", 0, 1).unwrap();
    assert!(within(partition.fetch_records(3, 1..1000, 0)).await.is_err());
    assert_eq!(partition.values(0).await, (vec!["a".into()], 1));
    assert_eq!(partition.write(&["d"]).await, [1]);
    assert_eq!(
        broker.faults.truncate("ping", 0, 3),
        Err(ResponseError::OffsetOutOfRange)
    );
    assert_eq!(
        broker.faults.offsets("pong", 0),
        Err(ResponseError::UnknownTopicOrPartition)
    );
}

#[tokio::test]
async fn poison_batch_is_returned_unchanged() {
    let broker = start().await;
    let partition = broker.topic("ping", 1).await.partition(0).await;
    for poison in [
        Poison::NullHeaderValue,
        Poison::HeaderKeyNotUtf8,
        Poison::UnreadableCodec(3),
        Poison::UnreadableCodec(4),
        Poison::WrongChecksum,
    ] {
        partition.write(&["valid"]).await;
        let base = broker.faults.append("ping", 0, poison, 10).unwrap();
        let end = broker.faults.offsets("ping", 0).unwrap().end;
        assert_eq!(end, base + 10, "{poison:?}");
        let one = within(partition.fetch_records(base - 1, 1..2, 0)).await.unwrap().0;
        assert_eq!(one.len(), 1, "the valid batch alone");
        assert!(
            within(partition.fetch_records(base, 1..2, 0)).await.is_err(),
            "{poison:?}"
        );
        assert_eq!(partition.write(&["valid"]).await, [end]);
        assert_eq!(partition.values(end).await.0, ["valid"]);
    }
}

#[tokio::test]
async fn open_transaction_holds_back_later_records() {
    let broker = start().await;
    let partition = broker.topic("ping", 1).await.partition(0).await;
    partition.write(&["before"]).await;
    broker
        .faults
        .append("ping", 0, Poison::OpenTransaction { producer_id: 7 }, 2)
        .unwrap();
    partition.write(&["behind"]).await;
    // rskafka reads with READ_COMMITTED.
    assert_eq!(partition.values(0).await, (vec!["before".into()], 4));
    assert_eq!(partition.values(1).await, (vec![], 4));
    assert_eq!(within(partition.get_offset(OffsetAt::Latest)).await.unwrap(), 1);

    let topic = fetch("ping", &[(0, 1)], 60_000).with_isolation_level(1);
    let mut connection = broker.connect().await;
    connection.send(VERSION, &topic).await;
    broker
        .faults
        .append(
            "ping",
            0,
            Poison::Marker {
                producer_id: 7,
                commit: false,
            },
            1,
        )
        .unwrap();
    let response = connection.receive::<FetchRequest>(VERSION).await;
    let data = &response.responses[0].partitions[0];
    assert_eq!((data.last_stable_offset, data.high_watermark), (5, 5));
    let aborted = data.aborted_transactions.as_ref().unwrap();
    assert_eq!((aborted[0].producer_id.0, aborted[0].first_offset), (7, 1));
    assert_eq!(within(partition.get_offset(OffsetAt::Latest)).await.unwrap(), 5);
}

#[tokio::test]
async fn heal_removes_all_faults() {
    let broker = start().await;
    let partition = broker.topic("ping", 1).await.partition(0).await;
    let faults = &broker.faults;
    faults.refuse(ApiKey::Produce, ResponseError::UnknownServerError, Faults::ALWAYS);
    faults.drop_before(ApiKey::Produce, Faults::ALWAYS);
    faults.pause();
    faults.heal();
    assert_eq!(partition.write(&["x"]).await, [0]);
    assert_eq!(faults.seen(ApiKey::Produce), 1);
    assert_eq!(faults.seen(ApiKey::ListOffsets), 0);
}

#[tokio::test]
async fn stopped_node_refuses_connections_and_keeps_its_log() {
    let broker = start().await;
    let partition = broker.topic("ping", 1).await.partition(0).await;
    partition.write(&["before"]).await;
    broker.faults.stop_node(1).await;
    let refused = TcpStream::connect(broker.addr).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    broker.faults.stop_node(1).await;
    broker.faults.start_node(1).await.unwrap();
    assert_eq!(partition.values(0).await, (vec!["before".into()], 1));
}

#[tokio::test]
async fn partitions_of_stopped_node_get_another_leader() {
    let broker = start().await;
    let partition = broker.topic("ping", 1).await.partition(0).await;
    partition.write(&["before"]).await;
    let (_, second) = broker.faults.add_node().await.unwrap();
    broker.faults.stop_node(1).await;
    let client = ClientBuilder::new(vec![second.to_string()]);
    let client = within(client.build()).await.unwrap();
    let moved = client.partition_client("ping", 0, UnknownTopicHandling::Error);
    let (records, _) = within(within(moved).await.unwrap().fetch_records(0, 1..1000, 0))
        .await
        .unwrap();
    assert_eq!(records[0].record.value.as_deref(), Some(&b"before"[..]));
}
