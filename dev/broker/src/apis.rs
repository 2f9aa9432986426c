//! The served APIs and their versions. `ApiVersions` responds with this table, and requests are checked against it.
//!
//! The highest versions are those of the `kafka-protocol` crate, except where a comment says otherwise.

use kafka_protocol::messages::ApiKey;

use crate::layout::{Field, requests};

/// An API that the broker serves.
#[derive(Debug)]
pub(crate) struct ServedApi {
    pub(crate) api: ApiKey,
    /// The lowest version served.
    pub(crate) min: i16,
    /// The highest version served.
    pub(crate) max: i16,
    /// The lowest version in the `ApiVersions` response.
    pub(crate) advertised_min: i16,
    /// The first version with compact lengths and tagged fields (KIP-482).
    pub(crate) flexible_from: i16,
    /// The layout of the request body, for the check of its lengths.
    pub(crate) layout: &'static [Field],
}

const fn serve(api: ApiKey, min: i16, max: i16, flexible_from: i16, layout: &'static [Field]) -> ServedApi {
    ServedApi {
        api,
        min,
        max,
        advertised_min: min,
        flexible_from,
        layout,
    }
}

/// All APIs that the broker serves.
pub(crate) static SERVED_APIS: &[ServedApi] = &[
    ServedApi {
        // librdkafka up to 2.8 disables compression unless the broker advertises Produce v0. So Apache Kafka 4 advertises
        // it and does not support it (KAFKA-18659).
        advertised_min: 0,
        ..serve(ApiKey::Produce, 3, 13, 9, requests::PRODUCE)
    },
    // Versions 17 and 18 add tagged fields inside an array, for followers only. `layout` cannot check them.
    serve(ApiKey::Fetch, 4, 16, 12, requests::FETCH),
    serve(ApiKey::ListOffsets, 1, 10, 6, requests::LIST_OFFSETS),
    serve(ApiKey::Metadata, 0, 13, 9, requests::METADATA),
    serve(ApiKey::ApiVersions, 0, 4, 3, requests::API_VERSIONS),
    serve(ApiKey::CreateTopics, 2, 7, 5, requests::CREATE_TOPICS),
    serve(ApiKey::DeleteTopics, 1, 6, 4, requests::DELETE_TOPICS),
    serve(ApiKey::DeleteRecords, 0, 2, 2, requests::DELETE_RECORDS),
    serve(ApiKey::InitProducerId, 0, 5, 2, requests::INIT_PRODUCER_ID),
    serve(ApiKey::CreatePartitions, 0, 3, 2, requests::CREATE_PARTITIONS),
    serve(ApiKey::FindCoordinator, 0, 6, 3, requests::FIND_COORDINATOR),
    // Version 10 of both uses topic ids, which the `kafka-protocol` crate does not support.
    serve(ApiKey::OffsetCommit, 2, 9, 8, requests::OFFSET_COMMIT),
    serve(ApiKey::OffsetFetch, 1, 9, 6, requests::OFFSET_FETCH),
    serve(ApiKey::OffsetDelete, 0, 0, i16::MAX, requests::OFFSET_DELETE),
    serve(
        ApiKey::ConsumerGroupHeartbeat,
        0,
        1,
        0,
        requests::CONSUMER_GROUP_HEARTBEAT,
    ),
    serve(
        ApiKey::ConsumerGroupDescribe,
        0,
        1,
        0,
        requests::CONSUMER_GROUP_DESCRIBE,
    ),
    serve(ApiKey::ListGroups, 0, 5, 3, requests::LIST_GROUPS),
    serve(ApiKey::DescribeGroups, 0, 6, 5, requests::DESCRIBE_GROUPS),
    serve(ApiKey::DeleteGroups, 0, 2, 2, requests::DELETE_GROUPS),
    serve(ApiKey::OffsetForLeaderEpoch, 2, 4, 4, requests::OFFSET_FOR_LEADER_EPOCH),
];

/// Finds an API by its key.
pub(crate) fn find(key: i16) -> Option<&'static ServedApi> {
    SERVED_APIS.iter().find(|served| served.api as i16 == key)
}

// === impl ServedApi ===

impl ServedApi {
    /// Whether the broker serves this version.
    pub(crate) fn supports(&self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn served_versions_exist_in_kafka_protocol() {
        for served in SERVED_APIS {
            let known = served.api.valid_versions();
            assert!(
                known.min <= served.min && served.max <= known.max,
                "{:?}: {known}",
                served.api
            );
            for version in served.min..=served.max {
                let flexible = served.api.request_header_version(version) == 2;
                assert_eq!(flexible, version >= served.flexible_from, "{:?} v{version}", served.api);
            }
        }
    }
}
