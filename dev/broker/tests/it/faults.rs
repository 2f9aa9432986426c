//! Each fault, seen from a client.

use std::time::Duration;

use broker::{ApiKey, Faults, Poison, ResponseError};
use chrono::Utc;
use kafka_protocol::messages::{FetchRequest, MetadataRequest};
use rskafka::client::{
    ClientBuilder,
    partition::{Compression, OffsetAt, UnknownTopicHandling},
};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    fetch::{VERSION, fetch},
    support::{BOUND, record, start, within},
};

/// Long enough to tell silence from an answer; what is silent is silent for ever.
const SILENCE: Duration = Duration::from_millis(100);

/// Waits until so many calls of an API have come in.
async fn seen(faults: &Faults, api: ApiKey, calls: usize) {
    within(async {
        while faults.seen(api) < calls {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn refused_calls_do_nothing_and_then_it_is_over() {
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
async fn any_call_can_be_refused() {
    let broker = start().await;
    broker.topic("ping", 1).await;
    for api in [ApiKey::Fetch, ApiKey::Metadata] {
        broker.faults.refuse(api, ResponseError::UnknownServerError, 1);
    }
    let mut wire = broker.wire().await;
    let fetched = wire.call(VERSION, &fetch("ping", &[(0, 0)], 60_000)).await;
    assert_eq!(fetched.responses[0].partitions[0].error_code, -1);
    let metadata = wire.call(9, &MetadataRequest::default().with_topics(None)).await;
    assert_eq!(metadata.topics[0].error_code, -1);
}

#[tokio::test]
async fn delayed_answers_are_late_and_the_work_is_not() {
    let broker = start().await;
    let topic = broker.topic("ping", 1).await;
    let (writer, reader) = (topic.partition(0).await, topic.partition(0).await);
    broker.faults.delay(ApiKey::Produce, Duration::from_millis(200), 1);
    let asked = Instant::now();
    let write = async { (writer.write(&["x"]).await, Instant::now()) };
    let read = async {
        let (records, _) = within(reader.fetch_records(0, 1..1000, 5000)).await.unwrap();
        assert_eq!(records.len(), 1);
        Instant::now()
    };
    let ((written, told), read) = tokio::join!(write, read);
    assert_eq!(written, [0]);
    assert!(told - asked >= Duration::from_millis(200));
    assert!(read < told, "it is read before its writer hears of it");
}

#[tokio::test]
async fn a_connection_dropped_before_has_no_effect_and_one_dropped_after_has() {
    let broker = start().await;
    // rskafka writes again when the connection breaks, and it is no idempotent producer.
    let partition = broker.topic("ping", 1).await.partition(0).await;
    broker.faults.drop_before(ApiKey::Produce, 1);
    assert_eq!(partition.write(&["x"]).await, [0]);
    broker.faults.drop_after(ApiKey::Produce, 1);
    assert_eq!(partition.write(&["x"]).await, [2]);
    assert_eq!(broker.faults.offsets("ping", 0).unwrap(), 0..3);
}

#[tokio::test]
async fn a_muted_connection_says_nothing_more_and_others_do() {
    let broker = start().await;
    let topic = broker.topic("ping", 1).await;
    broker.faults.mute(ApiKey::Metadata, 1);
    let mut wire = broker.wire().await;
    wire.ask(5, &MetadataRequest::default()).await;
    assert!(timeout(SILENCE, wire.frame()).await.is_err());
    wire.ask(5, &MetadataRequest::default()).await;
    assert!(timeout(SILENCE, wire.frame()).await.is_err());
    assert_eq!(within(topic.client.list_topics()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn throttled_writes_are_done() {
    let broker = start().await;
    let partition = broker.topic("ping", 1).await.partition(0).await;
    partition.write(&["x"]).await;
    broker.faults.throttle(ApiKey::Fetch, Duration::from_secs(60), 1);
    let mut wire = broker.wire().await;
    let asked = Instant::now();
    let response = wire.call(VERSION, &fetch("ping", &[(0, 0)], 0)).await;
    assert_eq!(response.throttle_time_ms, 60_000);
    assert!(asked.elapsed() < Duration::from_secs(60));
    // rskafka takes a throttled write for one that was not done, and writes again.
    broker.faults.throttle(ApiKey::Produce, Duration::from_millis(1), 2);
    assert_eq!(partition.write(&["x"]).await, [3]);
}

#[tokio::test]
async fn a_paused_broker_takes_in_and_gives_nothing_back() {
    let broker = start().await;
    let partition = broker.topic("ping", 1).await.partition(0).await;
    let mut waiting = broker.wire().await;
    waiting.ask(VERSION, &fetch("ping", &[(0, 0)], 50)).await;
    seen(&broker.faults, ApiKey::Fetch, 1).await;
    broker.faults.pause();
    let mut wire = broker.wire().await;
    wire.ask(5, &MetadataRequest::default()).await;
    let write = tokio::spawn(async move { partition.write(&["x"]).await });
    assert!(timeout(SILENCE, wire.frame()).await.is_err());
    assert!(timeout(SILENCE, waiting.frame()).await.is_err());
    assert_eq!(broker.faults.offsets("ping", 0).unwrap(), 0..0);
    broker.faults.resume();
    wire.answer::<MetadataRequest>(5).await;
    waiting.answer::<FetchRequest>(VERSION).await;
    assert_eq!(within(write).await.unwrap(), [0]);
}

#[tokio::test]
async fn idle_connections_are_closed_and_busy_ones_are_not() {
    let broker = start().await;
    broker.topic("ping", 1).await;
    let (mut idle, mut busy) = (broker.wire().await, broker.wire().await);
    busy.ask(VERSION, &fetch("ping", &[(0, 0)], 400)).await;
    broker.faults.close_idle_after(Some(Duration::from_millis(100)));
    let asked = Instant::now();
    assert!(idle.frame().await.is_none());
    assert!(asked.elapsed() >= Duration::from_millis(90));
    busy.answer::<FetchRequest>(VERSION).await;
    broker.faults.heal();
    busy.call(5, &MetadataRequest::default()).await;
}

#[tokio::test]
async fn disconnecting_spares_who_comes_later() {
    let broker = start().await;
    let mut wire = broker.wire().await;
    wire.call(5, &MetadataRequest::default()).await;
    broker.faults.disconnect();
    assert!(wire.frame().await.is_none());
    broker.wire().await.call(5, &MetadataRequest::default()).await;
}

#[tokio::test]
async fn a_leader_moves_and_the_old_one_lives_on() {
    let broker = start().await;
    let topic = broker.topic("ping", 2).await;
    let partition = topic.partition(0).await;
    partition.write(&["x"]).await;
    let mut old = broker.wire().await;
    old.ask(VERSION, &fetch("ping", &[(0, 1)], 60_000)).await;
    seen(&broker.faults, ApiKey::Fetch, 1).await;
    assert_eq!(
        broker.faults.move_leader("ping", 0, 2),
        Err(ResponseError::BrokerNotAvailable)
    );
    let (node, addr) = within(broker.faults.add_node()).await.unwrap();
    broker.faults.move_leader("ping", 0, node).unwrap();
    let told = old.answer::<FetchRequest>(VERSION).await;
    assert_eq!(told.responses[0].partitions[0].error_code, 6);

    let metadata = old.call(9, &MetadataRequest::default().with_topics(None)).await;
    let ports: Vec<_> = metadata.brokers.iter().map(|broker| broker.port).collect();
    assert_eq!(ports, [i32::from(broker.addr.port()), i32::from(addr.port())]);
    let leaders = metadata.topics[0].partitions.iter();
    let leaders: Vec<_> = leaders
        .map(|partition| (partition.leader_id.0, partition.leader_epoch))
        .collect();
    assert_eq!(leaders, [(2, 1), (1, 0)]);

    // A client that asks anew finds it, with all that was there.
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
async fn a_log_is_cut_behind_its_readers() {
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
    broker.faults.recreate_topic("ping").unwrap();
    assert_eq!(partition.values(0).await, (vec![], 0));
    broker.faults.delete_topic("ping").unwrap();
    assert_eq!(
        broker.faults.offsets("ping", 0),
        Err(ResponseError::UnknownTopicOrPartition)
    );
}

#[tokio::test]
async fn poison_is_handed_out_as_it_is() {
    let broker = start().await;
    let partition = broker.topic("ping", 1).await.partition(0).await;
    for poison in [
        Poison::NullHeaderValue,
        Poison::HeaderKeyNotUtf8,
        Poison::UnreadableCodec(3),
        Poison::UnreadableCodec(4),
    ] {
        partition.write(&["good"]).await;
        let bad = broker.faults.append("ping", 0, poison, 10).unwrap();
        let end = broker.faults.offsets("ping", 0).unwrap().end;
        assert_eq!(end, bad + 10, "{poison:?}");
        let one = within(partition.fetch_records(bad - 1, 1..2, 0)).await.unwrap().0;
        assert_eq!(one.len(), 1, "the good batch alone");
        assert!(
            within(partition.fetch_records(bad, 1..2, 0)).await.is_err(),
            "{poison:?}"
        );
        assert_eq!(partition.write(&["good"]).await, [end]);
        assert_eq!(partition.values(end).await.0, ["good"]);
    }
    assert_eq!(
        broker.faults.append_verbatim("ping", 0, b"short"),
        Err(ResponseError::CorruptMessage)
    );
}

#[tokio::test]
async fn an_open_transaction_holds_back_what_is_behind_it() {
    let broker = start().await;
    let partition = broker.topic("ping", 1).await.partition(0).await;
    partition.write(&["before"]).await;
    broker
        .faults
        .append("ping", 0, Poison::OpenTransaction { producer_id: 7 }, 2)
        .unwrap();
    partition.write(&["behind"]).await;
    // rskafka reads what is committed.
    assert_eq!(partition.values(0).await, (vec!["before".into()], 4));
    assert_eq!(partition.values(1).await, (vec![], 4));
    assert_eq!(within(partition.get_offset(OffsetAt::Latest)).await.unwrap(), 1);

    let topic = fetch("ping", &[(0, 1)], 60_000).with_isolation_level(1);
    let mut wire = broker.wire().await;
    wire.ask(VERSION, &topic).await;
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
    let response = wire.answer::<FetchRequest>(VERSION).await;
    let data = &response.responses[0].partitions[0];
    assert_eq!((data.last_stable_offset, data.high_watermark), (5, 5));
    let aborted = data.aborted_transactions.as_ref().unwrap();
    assert_eq!((aborted[0].producer_id.0, aborted[0].first_offset), (7, 1));
    assert_eq!(within(partition.get_offset(OffsetAt::Latest)).await.unwrap(), 5);
}

#[tokio::test]
async fn healing_takes_everything_back() {
    let broker = start().await;
    let partition = broker.topic("ping", 1).await.partition(0).await;
    let faults = &broker.faults;
    faults.refuse(ApiKey::Produce, ResponseError::UnknownServerError, Faults::ALWAYS);
    faults.delay(ApiKey::Produce, BOUND, Faults::ALWAYS);
    faults.drop_before(ApiKey::Produce, Faults::ALWAYS);
    faults.pause();
    faults.heal();
    assert_eq!(partition.write(&["x"]).await, [0]);
    assert_eq!(faults.seen(ApiKey::Produce), 1);
    assert_eq!(faults.seen(ApiKey::ListOffsets), 0);
}

#[tokio::test]
async fn a_stopped_node_refuses_connections_and_keeps_its_log() {
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
async fn the_partitions_of_a_stopped_node_are_led_by_another() {
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
