//! The supported calls and their versions: only flexible ones (KIP-482), where every length is a varint.

use std::ops::RangeInclusive;

use kafka_protocol::{
    messages::{
        ApiKey, ApiVersionsRequest, ApiVersionsResponse, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
        FindCoordinatorRequest, FindCoordinatorResponse, MetadataRequest, MetadataResponse, OffsetCommitRequest,
        OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
    },
    protocol::{Decodable, Encodable, HeaderVersion},
};

use super::error::Error;

/// A request and its answer.
pub(crate) trait Call: Encodable + HeaderVersion {
    const KEY: ApiKey;
    /// The supported versions.
    const VERSIONS: RangeInclusive<i16>;
    type Answer: Decodable + HeaderVersion;

    /// The error if the broker has none of these versions.
    fn unsupported() -> Error;
}

impl Call for ApiVersionsRequest {
    const KEY: ApiKey = ApiKey::ApiVersions;
    const VERSIONS: RangeInclusive<i16> = 3..=3;
    type Answer = ApiVersionsResponse;

    fn unsupported() -> Error {
        Error::UnsupportedVersion("ApiVersions v3 (Kafka 2.4)")
    }
}

impl Call for MetadataRequest {
    const KEY: ApiKey = ApiKey::Metadata;
    /// 9 is the first flexible version.
    const VERSIONS: RangeInclusive<i16> = 9..=12;
    type Answer = MetadataResponse;

    fn unsupported() -> Error {
        Error::UnsupportedVersion("Metadata v9 (Kafka 2.4)")
    }
}

impl Call for FindCoordinatorRequest {
    const KEY: ApiKey = ApiKey::FindCoordinator;
    /// From 4 on (KIP-699) the answer is a list.
    const VERSIONS: RangeInclusive<i16> = 4..=4;
    type Answer = FindCoordinatorResponse;

    fn unsupported() -> Error {
        Error::UnsupportedVersion("FindCoordinator v4 (Kafka 3.0)")
    }
}

impl Call for ConsumerGroupHeartbeatRequest {
    const KEY: ApiKey = ApiKey::ConsumerGroupHeartbeat;
    /// From 1 on the member id is the client's (KIP-1082).
    const VERSIONS: RangeInclusive<i16> = 1..=1;
    type Answer = ConsumerGroupHeartbeatResponse;

    fn unsupported() -> Error {
        Error::UnsupportedGroups
    }
}

impl Call for OffsetCommitRequest {
    const KEY: ApiKey = ApiKey::OffsetCommit;
    /// Members need 9 (KIP-848); from 10 on topics have ids instead of names.
    const VERSIONS: RangeInclusive<i16> = 8..=9;
    type Answer = OffsetCommitResponse;

    fn unsupported() -> Error {
        Error::UnsupportedVersion("OffsetCommit v8 (Kafka 2.4)")
    }
}

impl Call for OffsetFetchRequest {
    const KEY: ApiKey = ApiKey::OffsetFetch;
    /// From 8 on (KIP-709) it asks for groups; members need 9 (KIP-848); from 10 on topics have ids instead of names.
    const VERSIONS: RangeInclusive<i16> = 8..=9;
    type Answer = OffsetFetchResponse;

    fn unsupported() -> Error {
        Error::UnsupportedVersion("OffsetFetch v8 (Kafka 3.0)")
    }
}
