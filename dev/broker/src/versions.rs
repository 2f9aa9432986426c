//! Which calls the broker serves, in which versions: the one table from which `ApiVersions` answers, by which requests
//! are let in, and which says how their bytes are laid out.
//!
//! The upper ends are those of the wire types, with the exceptions written beside them.

use kafka_protocol::messages::ApiKey;

use crate::shape::{Field, requests};

/// One call the broker serves.
#[derive(Debug)]
pub(crate) struct Served {
    /// The call.
    pub(crate) api: ApiKey,
    /// The lowest version served.
    pub(crate) min: i16,
    /// The highest version served.
    pub(crate) max: i16,
    /// The lowest version `ApiVersions` names.
    pub(crate) advertised_min: i16,
    /// The first version with compact lengths and tagged fields (KIP-482).
    pub(crate) flexible_from: i16,
    /// How the body is laid out, for the check before decoding.
    pub(crate) shape: &'static [Field],
}

const fn serve(api: ApiKey, min: i16, max: i16, flexible_from: i16, shape: &'static [Field]) -> Served {
    Served {
        api,
        min,
        max,
        advertised_min: min,
        flexible_from,
        shape,
    }
}

/// Every call the broker serves.
pub(crate) static TABLE: &[Served] = &[
    Served {
        // librdkafka up to 2.8 takes a broker that does not name Produce v0 for one that cannot take compressed batches.
        // Apache Kafka 4 therefore names it and refuses it (KAFKA-18659); so does this one.
        advertised_min: 0,
        ..serve(ApiKey::Produce, 3, 13, 9, requests::PRODUCE)
    },
    // Versions 17 and 18 add tagged fields for followers only, inside an array, which `shape` does not look into.
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
    // From version 10 on topics go by their ids, in both; the wire types have no such requests.
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

/// The row of a call, if it is served at all.
pub(crate) fn find(key: i16) -> Option<&'static Served> {
    TABLE.iter().find(|row| row.api as i16 == key)
}

impl Served {
    /// Whether requests of this version are answered.
    pub(crate) fn takes(&self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_agrees_with_the_wire_types() {
        for row in TABLE {
            let known = row.api.valid_versions();
            assert!(known.min <= row.min && row.max <= known.max, "{:?}: {known}", row.api);
            for version in row.min..=row.max {
                let flexible = row.api.request_header_version(version) == 2;
                assert_eq!(flexible, version >= row.flexible_from, "{:?} v{version}", row.api);
            }
        }
    }
}
