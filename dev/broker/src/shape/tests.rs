use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        consumer_group_heartbeat_request::{ConsumerGroupHeartbeatRequest, TopicPartitions},
        create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic},
        create_topics_request::{
            CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
        },
        delete_records_request::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic},
        delete_topics_request::{DeleteTopicState, DeleteTopicsRequest},
        fetch_request::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic},
        list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic},
        metadata_request::{MetadataRequest, MetadataRequestTopic},
        offset_commit_request::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_delete_request::{OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
        offset_fetch_request::{
            OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
        },
        offset_for_leader_epoch_request::{
            OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
        },
        produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData},
        *,
    },
    protocol::{Encodable, StrBytes},
};

use super::*;
use crate::versions::{self, Served};

fn name() -> TopicName {
    TopicName(StrBytes::from_static_str("ping"))
}

/// A request with something in each of its arrays.
fn filled(api: ApiKey, version: i16) -> Bytes {
    let mut bytes = BytesMut::new();
    let text = || StrBytes::from_static_str("text");
    let encoded = match api {
        ApiKey::Produce => {
            let data = PartitionProduceData::default().with_records(Some(Bytes::from_static(b"records")));
            let topic = TopicProduceData::default()
                .with_name(name())
                .with_partition_data(vec![data; 2]);
            ProduceRequest::default()
                .with_topic_data(vec![topic; 2])
                .encode(&mut bytes, version)
        }
        ApiKey::Fetch => {
            let topic = FetchTopic::default()
                .with_topic(name())
                .with_partitions(vec![FetchPartition::default(); 2]);
            let forgotten = ForgottenTopic::default().with_topic(name()).with_partitions(vec![1, 2]);
            let forgotten = if version >= 7 { vec![forgotten; 2] } else { vec![] };
            let request = FetchRequest::default().with_topics(vec![topic; 2]);
            request
                .with_forgotten_topics_data(forgotten)
                .encode(&mut bytes, version)
        }
        ApiKey::ListOffsets => {
            let partitions = vec![ListOffsetsPartition::default(); 2];
            let topic = ListOffsetsTopic::default()
                .with_name(name())
                .with_partitions(partitions);
            ListOffsetsRequest::default()
                .with_topics(vec![topic; 2])
                .encode(&mut bytes, version)
        }
        ApiKey::Metadata => {
            let topic = MetadataRequestTopic::default().with_name(Some(name()));
            MetadataRequest::default()
                .with_topics(Some(vec![topic; 2]))
                .encode(&mut bytes, version)
        }
        ApiKey::ApiVersions => {
            let request = ApiVersionsRequest::default();
            let named = request
                .clone()
                .with_client_software_name(text())
                .with_client_software_version(text());
            if version >= 3 { named } else { request }.encode(&mut bytes, version)
        }
        ApiKey::CreateTopics => {
            let assignment = CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1); 3]);
            let config = CreatableTopicConfig::default()
                .with_name(text())
                .with_value(Some(text()));
            let topic = CreatableTopic::default().with_name(name());
            let topic = topic
                .with_assignments(vec![assignment; 2])
                .with_configs(vec![config; 2]);
            CreateTopicsRequest::default()
                .with_topics(vec![topic; 2])
                .encode(&mut bytes, version)
        }
        ApiKey::DeleteTopics => {
            let request = DeleteTopicsRequest::default();
            let state = DeleteTopicState::default().with_name(Some(name()));
            let by_state = request.clone().with_topics(vec![state; 2]);
            if version >= 6 {
                by_state
            } else {
                request.with_topic_names(vec![name(); 2])
            }
            .encode(&mut bytes, version)
        }
        ApiKey::DeleteRecords => {
            let partitions = vec![DeleteRecordsPartition::default(); 2];
            let topic = DeleteRecordsTopic::default()
                .with_name(name())
                .with_partitions(partitions);
            DeleteRecordsRequest::default()
                .with_topics(vec![topic; 2])
                .encode(&mut bytes, version)
        }
        ApiKey::InitProducerId => {
            let id = TransactionalId(text());
            InitProducerIdRequest::default()
                .with_transactional_id(Some(id))
                .encode(&mut bytes, version)
        }
        ApiKey::CreatePartitions => {
            let assignment = CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(1); 3]);
            let topic = CreatePartitionsTopic::default()
                .with_name(name())
                .with_assignments(Some(vec![assignment; 2]));
            CreatePartitionsRequest::default()
                .with_topics(vec![topic; 2])
                .encode(&mut bytes, version)
        }
        ApiKey::FindCoordinator => {
            let request = FindCoordinatorRequest::default();
            let keys = request.clone().with_coordinator_keys(vec![text(); 2]);
            if version >= 4 { keys } else { request.with_key(text()) }.encode(&mut bytes, version)
        }
        ApiKey::OffsetCommit => {
            let partition = OffsetCommitRequestPartition::default().with_committed_metadata(Some(text()));
            let topic = OffsetCommitRequestTopic::default()
                .with_name(name())
                .with_partitions(vec![partition; 2]);
            OffsetCommitRequest::default()
                .with_group_id(GroupId(text()))
                .with_member_id(text())
                .with_group_instance_id((version >= 7).then(text))
                .with_topics(vec![topic; 2])
                .encode(&mut bytes, version)
        }
        ApiKey::OffsetFetch => {
            let request = OffsetFetchRequest::default();
            let request = if version >= 8 {
                let topic = OffsetFetchRequestTopics::default()
                    .with_name(name())
                    .with_partition_indexes(vec![1, 2]);
                let group = OffsetFetchRequestGroup::default()
                    .with_group_id(GroupId(text()))
                    .with_member_id((version >= 9).then(text))
                    .with_topics(Some(vec![topic; 2]));
                request.with_groups(vec![group; 2])
            } else {
                let topic = OffsetFetchRequestTopic::default()
                    .with_name(name())
                    .with_partition_indexes(vec![1, 2]);
                let request = request.with_group_id(GroupId(text()));
                request.with_topics(Some(vec![topic; 2]))
            };
            request.encode(&mut bytes, version)
        }
        ApiKey::OffsetDelete => {
            let topic = OffsetDeleteRequestTopic::default()
                .with_name(name())
                .with_partitions(vec![OffsetDeleteRequestPartition::default(); 2]);
            OffsetDeleteRequest::default()
                .with_group_id(GroupId(text()))
                .with_topics(vec![topic; 2])
                .encode(&mut bytes, version)
        }
        ApiKey::ConsumerGroupHeartbeat => {
            let topic = TopicPartitions::default().with_partitions(vec![1, 2]);
            ConsumerGroupHeartbeatRequest::default()
                .with_group_id(GroupId(text()))
                .with_member_id(text())
                .with_instance_id(Some(text()))
                .with_rack_id(Some(text()))
                .with_subscribed_topic_names(Some(vec![name(); 2]))
                .with_subscribed_topic_regex((version >= 1).then(text))
                .with_server_assignor(Some(text()))
                .with_topic_partitions(Some(vec![topic; 2]))
                .encode(&mut bytes, version)
        }
        ApiKey::ConsumerGroupDescribe => ConsumerGroupDescribeRequest::default()
            .with_group_ids(vec![GroupId(text()); 2])
            .encode(&mut bytes, version),
        ApiKey::ListGroups => {
            let filter = |from| if version >= from { vec![text(); 2] } else { vec![] };
            ListGroupsRequest::default()
                .with_states_filter(filter(4))
                .with_types_filter(filter(5))
                .encode(&mut bytes, version)
        }
        ApiKey::DescribeGroups => DescribeGroupsRequest::default()
            .with_groups(vec![GroupId(text()); 2])
            .encode(&mut bytes, version),
        ApiKey::DeleteGroups => DeleteGroupsRequest::default()
            .with_groups_names(vec![GroupId(text()); 2])
            .encode(&mut bytes, version),
        ApiKey::OffsetForLeaderEpoch => {
            let partitions = vec![OffsetForLeaderPartition::default(); 2];
            let topic = OffsetForLeaderTopic::default()
                .with_topic(name())
                .with_partitions(partitions);
            OffsetForLeaderEpochRequest::default()
                .with_topics(vec![topic; 2])
                .encode(&mut bytes, version)
        }
        other => panic!("no sample of {other:?}: add one"),
    };
    encoded.unwrap_or_else(|error| panic!("{api:?} v{version}: {error}"));
    bytes.freeze()
}

fn walk(row: &Served, version: i16, bytes: &[u8]) -> Result<usize, Malformed> {
    Walk::new(bytes, version, version >= row.flexible_from)
        .fields(row.shape)
        .map(<[u8]>::len)
}

#[test]
fn every_shape_fits_its_requests_exactly() {
    for row in versions::TABLE {
        for version in row.min..=row.max {
            let bytes = filled(row.api, version);
            assert_eq!(walk(row, version, &bytes).ok(), Some(0), "{:?} v{version}", row.api);
            for length in 0..bytes.len() {
                assert!(
                    walk(row, version, &bytes[..length]).is_err(),
                    "{:?} v{version} cut at {length}",
                    row.api
                );
            }
        }
    }
}

/// Without the check these claims end the process: the decoder reserves room for them.
#[test]
fn claims_of_large_arrays_are_refused() {
    for claim in [1_000, i32::MAX] {
        let mut bytes = BytesMut::new();
        bytes.put_i32(claim);
        let row = versions::find(ApiKey::Metadata as i16).unwrap();
        assert!(walk(row, 1, &bytes).is_err());
    }
    let row = versions::find(ApiKey::Metadata as i16).unwrap();
    assert!(walk(row, 9, &[0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
}

#[test]
fn claims_that_are_covered_are_bounded_too() {
    let row = versions::find(ApiKey::DeleteTopics as i16).unwrap();
    let topics = |count: usize| {
        let mut bytes = BytesMut::new();
        bytes.put_i32(i32::try_from(count).unwrap());
        bytes.put_bytes(0, 2 * count + 4);
        bytes
    };
    assert_eq!(walk(row, 1, &topics(MAX_ELEMENTS)).ok(), Some(0));
    assert!(walk(row, 1, &topics(MAX_ELEMENTS + 1)).is_err());
}
