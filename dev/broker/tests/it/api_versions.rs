//! Every served API in every advertised version.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        ApiKey, ApiVersionsRequest, ApiVersionsResponse, ConsumerGroupDescribeRequest, CreatePartitionsRequest,
        CreateTopicsRequest, DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeGroupsRequest,
        FindCoordinatorRequest, GroupId, InitProducerIdRequest, ListGroupsRequest, ListOffsetsRequest, MetadataRequest,
        OffsetDeleteRequest, OffsetForLeaderEpochRequest, ProduceRequest,
        create_partitions_request::CreatePartitionsTopic,
        create_topics_request::CreatableTopic,
        delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
        delete_topics_request::DeleteTopicState,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
        offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic},
        produce_request::{PartitionProduceData, TopicProduceData},
    },
    protocol::{Decodable, StrBytes},
};
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use crate::{
    consumer_groups::{commit, group, join, leave, offset_fetch, offsets},
    fetch::fetch,
    support::{Connection, name, start, within},
};

#[tokio::test]
async fn every_advertised_version_gets_a_response() {
    let broker = start().await;
    broker
        .topic("ping", 1)
        .await
        .partition(0)
        .await
        .write(&["x", "y"])
        .await;
    let mut connection = broker.connect().await;
    let metadata = connection.call(12, &MetadataRequest::default().with_topics(None)).await;
    let id = metadata.topics[0].topic_id;
    let records = connection.call(4, &fetch("ping", &[(0, 0)], 0)).await.responses[0].partitions[0]
        .records
        .clone();
    let served = connection.call(0, &ApiVersionsRequest::default()).await.api_keys;
    assert!(served.len() >= 10);
    for row in served {
        let api = ApiKey::try_from(row.api_key).unwrap();
        // Produce advertises versions that are not supported (KAFKA-18659).
        let min = if api == ApiKey::Produce { 3 } else { row.min_version };
        for version in min..=row.max_version {
            let error = call(&mut connection, api, version, id, records.clone()).await;
            assert_eq!(error, 0, "{api:?} v{version}");
        }
    }
}

/// Sends a request that should succeed, and gives the error code of its response.
async fn call(connection: &mut Connection, api: ApiKey, version: i16, id: Uuid, records: Option<Bytes>) -> i16 {
    match api {
        ApiKey::Produce => {
            let data = PartitionProduceData::default().with_records(records);
            let topic = TopicProduceData::default().with_partition_data(vec![data]);
            let topic = if version >= 13 {
                topic.with_topic_id(id)
            } else {
                topic.with_name(name("ping"))
            };
            let request = ProduceRequest::default().with_acks(-1).with_topic_data(vec![topic]);
            connection.call(version, &request).await.responses[0].partition_responses[0].error_code
        }
        ApiKey::Fetch => {
            let mut request = fetch(if version >= 13 { "" } else { "ping" }, &[(0, 0)], 0);
            if version >= 13 {
                request.topics[0].topic_id = id;
            }
            for committed in [0, 1] {
                request.isolation_level = committed;
                let response = connection.call(version, &request).await;
                let partition = &response.responses[0].partitions[0];
                assert!(partition.records.as_ref().is_some_and(|bytes| !bytes.is_empty()));
                assert_eq!(partition.aborted_transactions.is_some(), committed == 1);
                // An empty response.
                let mut nothing = request.clone();
                nothing.topics[0].partitions[0].fetch_offset = partition.high_watermark;
                assert_eq!(
                    connection.call(version, &nothing).await.responses[0].partitions[0].error_code,
                    0
                );
            }
            0
        }
        ApiKey::ListOffsets => {
            // Each with its first version.
            let timestamps = [(-1, 1), (-2, 1), (0, 1), (i64::MAX, 1), (-3, 7), (-4, 8), (-5, 9)];
            for (timestamp, _) in timestamps.into_iter().filter(|(_, from)| version >= *from) {
                let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
                let topic = ListOffsetsTopic::default()
                    .with_name(name("ping"))
                    .with_partitions(vec![partition]);
                let request = ListOffsetsRequest::default().with_topics(vec![topic]);
                let response = connection.call(version, &request).await;
                let found = &response.topics[0].partitions[0];
                assert_eq!(found.error_code, 0, "timestamp {timestamp}");
                assert_eq!(
                    found.offset < 0,
                    matches!(timestamp, -5 | i64::MAX),
                    "timestamp {timestamp}"
                );
            }
            0
        }
        ApiKey::Metadata => {
            let all = if version == 0 { Some(vec![]) } else { None };
            let response = connection
                .call(version, &MetadataRequest::default().with_topics(all))
                .await;
            assert_eq!(response.brokers.len(), 1);
            response
                .topics
                .iter()
                .find(|topic| topic.name == Some(name("ping")))
                .unwrap()
                .error_code
        }
        ApiKey::ApiVersions => {
            let request = ApiVersionsRequest::default();
            let text = StrBytes::from_static_str("test");
            let named = request
                .clone()
                .with_client_software_name(text.clone())
                .with_client_software_version(text);
            connection
                .call(version, if version >= 3 { &named } else { &request })
                .await
                .error_code
        }
        ApiKey::CreateTopics => {
            let topic = CreatableTopic::default()
                .with_name(name(&format!("created-{version}")))
                .with_num_partitions(2);
            let request = CreateTopicsRequest::default().with_topics(vec![topic.with_replication_factor(-1)]);
            let trial = connection
                .call(version, &request.clone().with_validate_only(true))
                .await;
            assert_eq!(trial.topics[0].error_code, 0);
            connection.call(version, &request).await.topics[0].error_code
        }
        ApiKey::DeleteTopics => {
            // A topic that `CreateTopics` created before.
            let gone = name(&format!("created-{}", version + 1));
            let request = DeleteTopicsRequest::default();
            let state = DeleteTopicState::default().with_name(Some(gone.clone()));
            let by_state = request.clone().with_topics(vec![state]);
            let by_name = request.with_topic_names(vec![gone]);
            connection
                .call(version, if version >= 6 { &by_state } else { &by_name })
                .await
                .responses[0]
                .error_code
        }
        ApiKey::DeleteRecords => {
            let topic = DeleteRecordsTopic::default().with_name(name("ping"));
            let topic = topic.with_partitions(vec![DeleteRecordsPartition::default().with_offset(1)]);
            let request = DeleteRecordsRequest::default().with_topics(vec![topic]);
            let response = connection.call(version, &request).await;
            assert_eq!(response.topics[0].partitions[0].low_watermark, 1);
            response.topics[0].partitions[0].error_code
        }
        ApiKey::InitProducerId => {
            let request = InitProducerIdRequest::default().with_transactional_id(None);
            let first = connection.call(version, &request).await;
            let second = connection.call(version, &request).await;
            assert_ne!(first.producer_id, second.producer_id);
            first.error_code
        }
        ApiKey::OffsetForLeaderEpoch => {
            let topic = OffsetForLeaderTopic::default().with_topic(name("ping"));
            let topic = topic.with_partitions(vec![OffsetForLeaderPartition::default()]);
            let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
            let response = connection.call(version, &request).await;
            assert!(response.topics[0].partitions[0].end_offset > 0);
            response.topics[0].partitions[0].error_code
        }
        ApiKey::CreatePartitions => {
            let topic = CreatePartitionsTopic::default()
                .with_name(name("ping"))
                .with_count(2 + i32::from(version))
                .with_assignments(None);
            let request = CreatePartitionsRequest::default().with_topics(vec![topic]);
            let trial = connection
                .call(version, &request.clone().with_validate_only(true))
                .await;
            assert_eq!(trial.results[0].error_code, 0);
            connection.call(version, &request).await.results[0].error_code
        }
        ApiKey::FindCoordinator => {
            let request = FindCoordinatorRequest::default();
            let key = StrBytes::from_static_str("group");
            if version >= 4 {
                let request = request.with_coordinator_keys(vec![key; 2]);
                let response = connection.call(version, &request).await;
                assert_eq!(response.coordinators.len(), 2);
                assert_eq!(response.coordinators[0].node_id.0, 1);
                response.coordinators[0].error_code
            } else {
                let response = connection.call(version, &request.with_key(key)).await;
                assert_eq!(response.node_id.0, 1);
                response.error_code
            }
        }
        ApiKey::OffsetCommit => {
            let committed = connection.call(version, &commit("ping", &[(0, 7)])).await;
            committed.topics[0].partitions[0].error_code
        }
        ApiKey::OffsetFetch => {
            // The offset that `OffsetCommit` committed.
            let response = connection
                .call(version, &offset_fetch(version, Some(("ping", &[0, 1]))))
                .await;
            assert_eq!(offsets(version, &response), [7, -1]);
            let response = if version >= 2 {
                connection.call(version, &offset_fetch(version, None)).await
            } else {
                response
            };
            assert_eq!(offsets(version, &response)[0], 7);
            response.error_code + response.groups.iter().map(|group| group.error_code).sum::<i16>()
        }
        ApiKey::OffsetDelete => {
            let topic = OffsetDeleteRequestTopic::default().with_name(name("ping"));
            let topic = topic.with_partitions(vec![OffsetDeleteRequestPartition::default().with_partition_index(1)]);
            let request = OffsetDeleteRequest::default().with_group_id(group());
            let response = connection.call(version, &request.with_topics(vec![topic])).await;
            response.error_code + response.topics[0].partitions[0].error_code
        }
        ApiKey::ConsumerGroupHeartbeat => {
            let member = format!("member-{version}");
            let joined = connection.call(version, &join("members", &member, &["ping"])).await;
            assert_eq!(
                (joined.member_id.as_deref(), joined.assignment.is_some()),
                (Some(&*member), true)
            );
            let left = connection.call(version, &leave("members", &member)).await;
            assert_eq!(left.member_epoch, -1);
            joined.error_code + left.error_code
        }
        ApiKey::ConsumerGroupDescribe => {
            let members = GroupId(StrBytes::from_static_str("members"));
            let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![members]);
            let response = connection.call(version, &request).await;
            assert_eq!(response.groups[0].group_state.as_str(), "Empty");
            response.groups[0].error_code
        }
        ApiKey::ListGroups => {
            let response = connection.call(version, &ListGroupsRequest::default()).await;
            assert_eq!(response.groups.len(), 2);
            response.error_code
        }
        ApiKey::DescribeGroups => {
            let request = DescribeGroupsRequest::default().with_groups(vec![group()]);
            let response = connection.call(version, &request).await;
            assert_eq!(response.groups[0].group_state.as_str(), "Empty");
            response.groups[0].error_code
        }
        ApiKey::DeleteGroups => {
            connection.call(9, &commit("ping", &[(0, 7)])).await;
            let request = DeleteGroupsRequest::default().with_groups_names(vec![group()]);
            connection.call(version, &request).await.results[0].error_code
        }
        other => panic!("no request for {other:?}: add one"),
    }
}

#[tokio::test]
async fn unsupported_api_versions_version_gets_a_response_of_version_0() {
    let broker = start().await;
    for version in [5, 99, -1] {
        let mut connection = broker.connect().await;
        let mut request = BytesMut::new();
        request.put_i32(4 + 4 + 2);
        request.put_i16(ApiKey::ApiVersions as i16);
        request.put_i16(version);
        request.put_i32(7);
        request.put_i16(-1);
        within(connection.stream.write_all(&request)).await.unwrap();
        let mut frame = connection.frame().await.unwrap();
        assert_eq!(frame.get_i32(), 7);
        let response = ApiVersionsResponse::decode(&mut frame, 0).unwrap();
        assert_eq!(response.error_code, 35);
        let own: Vec<_> = response
            .api_keys
            .iter()
            .map(|row| (row.api_key, row.min_version, row.max_version))
            .collect();
        assert_eq!(own, [(18, 0, 4)]);
        // The client may retry.
        let served = connection.call(0, &ApiVersionsRequest::default()).await;
        assert_eq!(served.error_code, 0);
    }
}
