use kafka_protocol::{
    messages::{
        ApiKey, GroupId, OffsetFetchResponse,
        offset_fetch_response::{OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics},
    },
    protocol::StrBytes,
};

use super::*;
use crate::scripted_broker::ScriptedBroker;

/// A coordinator that has offset 5 of partition 0, and none of two others.
async fn coordinator() -> ScriptedBroker {
    ScriptedBroker::coordinator(move |request| {
        assert_eq!(request.key, ApiKey::OffsetFetch);
        let committed = [(0, 5), (1, -1), (2, -1)].map(|(partition, offset)| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(partition)
                .with_committed_offset(offset)
        });
        let topic = OffsetFetchResponseTopics::default().with_partitions(committed.into());
        let group = OffsetFetchResponseGroup::default()
            .with_group_id(GroupId(StrBytes::from_static_str("g")))
            .with_topics(vec![topic]);
        request.answer(&OffsetFetchResponse::default().with_groups(vec![group]))
    })
    .await
}

async fn starts(offsets: &mut CommittedOffsets, partitions: &[i32], count: i32) -> BTreeMap<i32, Start> {
    let partitions = partitions.iter().copied().collect();
    offsets.starts(None, &"ping".into(), &partitions, count).await.unwrap()
}

#[tokio::test]
async fn removed_partition_is_read_from_its_beginning_when_the_topic_has_it_again() {
    let broker = coordinator().await;
    let metrics = CommitMetrics::default();
    let mut offsets = CommittedOffsets::new(broker.client(), StartFrom::Resume, metrics);
    // The topic has all three at the first look-up: what is not committed was not asked for yet.
    assert_eq!(
        starts(&mut offsets, &[0, 1, 2], 3).await,
        [(0, Start::At(5)), (1, Start::Latest), (2, Start::Latest)].into()
    );
    offsets.partitions_removed(&[TopicPartition::new(&"ping".into(), 2)].into());
    assert_eq!(
        starts(&mut offsets, &[1, 2], 3).await,
        [(1, Start::Latest), (2, Start::Earliest)].into()
    );
}
