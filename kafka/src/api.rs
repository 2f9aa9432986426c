//! The calls to a broker that are made here, and the versions that are spoken: all but one of the flexible kind (KIP-482), in
//! which every length is a varint, so that [`connection`](crate::connection) can check it.

use kafka_protocol::{
    messages as kp,
    protocol::{Decodable, Encodable},
};

/// A request with its response.
pub(crate) trait Request: Encodable + Send + Sync {
    /// Its name in the protocol, for errors.
    const NAME: &'static str;
    /// Its number.
    const KEY: i16;
    /// The first and the last version spoken here.
    const VERSIONS: (i16, i16);
    /// From this version on it is flexible.
    const FIRST_FLEXIBLE_VERSION: i16;
    /// From this version on the header of the response is, too.
    const FIRST_FLEXIBLE_RESPONSE_HEADER: i16 = Self::FIRST_FLEXIBLE_VERSION;
    /// The first release of Kafka that has the first version.
    const NEEDS: &'static str;
    /// What the broker answers.
    type Response: Decodable + Send;
}

macro_rules! requests {
    ($($(#[$doc:meta])* $request:ident => $response:ident, $key:literal, $first:literal ..= $last:literal, flexible $flexible:literal, $needs:literal;)*) => {$(
        $(#[$doc])*
        impl Request for kp::$request {
            const NAME: &'static str = {
                let (name, _) = stringify!($request).split_at(stringify!($request).len() - "Request".len());
                name
            };
            const KEY: i16 = $key;
            const VERSIONS: (i16, i16) = ($first, $last);
            const FIRST_FLEXIBLE_VERSION: i16 = $flexible;
            const NEEDS: &'static str = $needs;
            type Response = kp::$response;
        }
    )*};
}

requests! {
    ProduceRequest => ProduceResponse, 0, 9..=12, flexible 9, "Kafka 2.8";
    // From 13 on topics have ids instead of names.
    FetchRequest => FetchResponse, 1, 12..=12, flexible 12, "Kafka 2.7";
    ListOffsetsRequest => ListOffsetsResponse, 2, 6..=6, flexible 6, "Kafka 2.8";
    MetadataRequest => MetadataResponse, 3, 9..=12, flexible 9, "Kafka 2.4";
    // Members of groups need 9 (KIP-848); from 10 on topics have ids instead of names.
    OffsetCommitRequest => OffsetCommitResponse, 8, 8..=9, flexible 8, "Kafka 2.4";
    // From 8 on (KIP-709) it asks for groups.
    OffsetFetchRequest => OffsetFetchResponse, 9, 8..=9, flexible 6, "Kafka 3.0";
    // From 4 on (KIP-699) the answer is a list.
    FindCoordinatorRequest => FindCoordinatorResponse, 10, 4..=4, flexible 3, "Kafka 3.0";
    // Not flexible in any version.
    SaslHandshakeRequest => SaslHandshakeResponse, 17, 1..=1, flexible 100, "Kafka 1.0";
    CreateTopicsRequest => CreateTopicsResponse, 19, 5..=7, flexible 5, "Kafka 2.4";
    DescribeConfigsRequest => DescribeConfigsResponse, 32, 4..=4, flexible 4, "Kafka 2.8";
    SaslAuthenticateRequest => SaslAuthenticateResponse, 36, 2..=2, flexible 2, "Kafka 2.5";
    // From 1 on the member id is the client's (KIP-1082).
    ConsumerGroupHeartbeatRequest => ConsumerGroupHeartbeatResponse, 68, 1..=1, flexible 0,
        "Kafka 4.0 with group.version 1";
}

/// The header of the response is never flexible, for a broker that does not know the version of the request (KIP-511).
impl Request for kp::ApiVersionsRequest {
    const NAME: &'static str = "ApiVersions";
    const KEY: i16 = 18;
    const VERSIONS: (i16, i16) = (3, 3);
    const FIRST_FLEXIBLE_VERSION: i16 = 3;
    const FIRST_FLEXIBLE_RESPONSE_HEADER: i16 = i16::MAX;
    const NEEDS: &'static str = "Kafka 2.4";
    type Response = kp::ApiVersionsResponse;
}
