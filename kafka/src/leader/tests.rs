use kafka_protocol::messages::{
    ApiKey, MetadataResponse, ProduceResponse,
    metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
    produce_response::{PartitionProduceResponse, TopicProduceResponse},
};

use super::*;
use crate::scripted_broker::{Reaction, ReceivedRequest, ScriptedBroker, versions};

/// A broker that leads partition 0 of every topic, and throttles after the first produce call.
async fn throttling_broker(throttle: Duration) -> ScriptedBroker {
    let mut throttle_ms = millis(throttle);
    ScriptedBroker::new(move |request, port| match request.key {
        ApiKey::ApiVersions => request.answer(&versions(&[ApiKey::Metadata, ApiKey::Produce])),
        ApiKey::Metadata => leads(request, port),
        _ => {
            let topic =
                TopicProduceResponse::default().with_partition_responses(vec![PartitionProduceResponse::default()]);
            let answer = ProduceResponse::default().with_responses(vec![topic]);
            request.answer(&answer.with_throttle_time_ms(std::mem::take(&mut throttle_ms)))
        }
    })
    .await
}

fn leads(request: &ReceivedRequest, port: u16) -> Reaction {
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(1))
        .with_host(StrBytes::from_static_str("127.0.0.1"))
        .with_port(i32::from(port));
    let partition = MetadataResponsePartition::default().with_leader_id(BrokerId(1));
    let topic = MetadataResponseTopic::default().with_partitions(vec![partition]);
    request.answer(
        &MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_topics(vec![topic]),
    )
}

#[tokio::test]
async fn throttle_is_no_part_of_the_time_limit_of_a_call() {
    let throttle = PRODUCE_TIMEOUT + Duration::from_millis(300);
    let broker = throttling_broker(throttle).await;
    let partition = Partition::new(&Arc::new(broker.cluster()), "ping", 0);
    let mut leader = partition.connect(Operation::Write).await.unwrap();
    leader.produce(Bytes::from_static(b"first")).await.unwrap();
    let answered = Instant::now();
    assert!(leader.throttled_until().is_some_and(|until| until > answered));
    leader.produce(Bytes::from_static(b"second")).await.unwrap();
    assert!(
        answered.elapsed() >= throttle - Duration::from_millis(100),
        "{:?}",
        answered.elapsed()
    );
    assert!(leader.throttled_until().is_none() && leader.is_usable());
    let sent = broker.requests(ApiKey::Produce);
    let sent = sent.iter().map(|request| request.decode::<ProduceRequest>().topic_data);
    let batches = sent.map(|mut topics| topics.remove(0).partition_data.remove(0).records.unwrap());
    assert_eq!(batches.collect::<Vec<_>>(), ["first", "second"], "each once");
}
