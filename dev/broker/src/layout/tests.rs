use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        ApiKey, ApiVersionsRequest, ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest,
        CreatePartitionsRequest, CreateTopicsRequest, DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
        DescribeGroupsRequest, FetchRequest, FindCoordinatorRequest, InitProducerIdRequest, ListGroupsRequest,
        ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
        OffsetForLeaderEpochRequest, ProduceRequest,
    },
    protocol::Decodable,
};

use super::*;
use crate::apis::{self, SERVED_APIS, ServedApi};

/// No valid length: a field that the layout and the decoder read differently makes the decoder fail.
const FILL: u8 = 0x7f;

/// Encodes the fields with two elements in each array.
fn encode(bytes: &mut BytesMut, fields: &[Field], version: i16, flexible: bool) {
    for field in fields.iter().filter(|field| field.is_in(version)) {
        encode_type(bytes, &field.field_type, version, flexible);
    }
    if flexible {
        bytes.put_u8(0);
    }
}

fn encode_type(bytes: &mut BytesMut, field_type: &Type, version: i16, flexible: bool) {
    let put_length = |bytes: &mut BytesMut, length: u8| {
        if flexible {
            bytes.put_u8(length + 1);
        } else {
            bytes.put_i32(i32::from(length));
        }
    };
    match field_type {
        Type::Fixed(size) => bytes.put_bytes(FILL, *size),
        Type::Str if !flexible => {
            bytes.put_i16(4);
            bytes.put_slice(b"text");
        }
        Type::Str | Type::Bytes => {
            put_length(bytes, 4);
            bytes.put_slice(b"text");
        }
        Type::Structs(fields) => {
            put_length(bytes, 2);
            (0..2).for_each(|_| encode(bytes, fields, version, flexible));
        }
        Type::Array(element) => {
            put_length(bytes, 2);
            (0..2).for_each(|_| encode_type(bytes, element, version, flexible));
        }
    }
}

/// The bytes that the decoder leaves.
fn decode(api: ApiKey, version: i16, mut bytes: Bytes) -> usize {
    fn decode<R: Decodable>(bytes: &mut Bytes, version: i16) -> Result<(), String> {
        R::decode(bytes, version).map(drop).map_err(|error| error.to_string())
    }
    let decoder = match api {
        ApiKey::Produce => decode::<ProduceRequest>,
        ApiKey::Fetch => decode::<FetchRequest>,
        ApiKey::ListOffsets => decode::<ListOffsetsRequest>,
        ApiKey::Metadata => decode::<MetadataRequest>,
        ApiKey::ApiVersions => decode::<ApiVersionsRequest>,
        ApiKey::CreateTopics => decode::<CreateTopicsRequest>,
        ApiKey::DeleteTopics => decode::<DeleteTopicsRequest>,
        ApiKey::DeleteRecords => decode::<DeleteRecordsRequest>,
        ApiKey::InitProducerId => decode::<InitProducerIdRequest>,
        ApiKey::CreatePartitions => decode::<CreatePartitionsRequest>,
        ApiKey::FindCoordinator => decode::<FindCoordinatorRequest>,
        ApiKey::OffsetCommit => decode::<OffsetCommitRequest>,
        ApiKey::OffsetFetch => decode::<OffsetFetchRequest>,
        ApiKey::OffsetDelete => decode::<OffsetDeleteRequest>,
        ApiKey::ConsumerGroupHeartbeat => decode::<ConsumerGroupHeartbeatRequest>,
        ApiKey::ConsumerGroupDescribe => decode::<ConsumerGroupDescribeRequest>,
        ApiKey::ListGroups => decode::<ListGroupsRequest>,
        ApiKey::DescribeGroups => decode::<DescribeGroupsRequest>,
        ApiKey::DeleteGroups => decode::<DeleteGroupsRequest>,
        ApiKey::OffsetForLeaderEpoch => decode::<OffsetForLeaderEpochRequest>,
        other => panic!("no decoder for {other:?}: add one"),
    };
    decoder(&mut bytes, version).unwrap_or_else(|error| panic!("{api:?} v{version}: {error}"));
    bytes.len()
}

fn walk(served: &ServedApi, version: i16, bytes: &[u8]) -> Result<usize, Malformed> {
    Walker::new(bytes, version, version >= served.flexible_from)
        .skip_fields(served.layout)
        .map(<[u8]>::len)
}

#[test]
fn layouts_match_the_decoder() {
    for served in SERVED_APIS {
        for version in served.min..=served.max {
            let mut bytes = BytesMut::new();
            encode(&mut bytes, served.layout, version, version >= served.flexible_from);
            let bytes = bytes.freeze();
            assert_eq!(
                decode(served.api, version, bytes.clone()),
                0,
                "{:?} v{version}",
                served.api
            );
            assert_eq!(
                walk(served, version, &bytes).ok(),
                Some(0),
                "{:?} v{version}",
                served.api
            );
            for length in 0..bytes.len() {
                assert!(
                    walk(served, version, &bytes[..length]).is_err(),
                    "{:?} v{version} truncated to {length} bytes",
                    served.api
                );
            }
        }
    }
}

/// Without the check the decoder would reserve memory for these claims, and abort the process.
#[test]
fn array_longer_than_the_request_is_malformed() {
    let metadata = apis::find(ApiKey::Metadata as i16).unwrap();
    for claim in [1_000, i32::MAX] {
        assert!(walk(metadata, 1, &claim.to_be_bytes()).is_err());
    }
    assert!(walk(metadata, 9, &[0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
}

#[test]
fn number_of_elements_is_limited() {
    let delete_topics = apis::find(ApiKey::DeleteTopics as i16).unwrap();
    let topics = |count: usize| {
        let mut bytes = BytesMut::new();
        bytes.put_i32(i32::try_from(count).unwrap());
        bytes.put_bytes(0, 2 * count + 4);
        bytes
    };
    assert_eq!(walk(delete_topics, 1, &topics(MAX_ELEMENTS)).ok(), Some(0));
    assert!(walk(delete_topics, 1, &topics(MAX_ELEMENTS + 1)).is_err());
}
