//! Entry points for `dev/fuzz`: decoders of bytes from brokers. The tests here run its corpus.

use bytes::Bytes;
use kafka_protocol::messages::{
    ApiVersionsResponse, ConsumerGroupHeartbeatResponse, FindCoordinatorResponse, MetadataResponse,
    OffsetCommitResponse, OffsetFetchResponse,
};

use crate::coordinator::frame;

/// Decodes an answer without its length; the first byte selects the call.
pub fn coordinator(bytes: &[u8]) {
    let Some((call, answer)) = bytes.split_first() else {
        return;
    };
    let answer = Bytes::copy_from_slice(answer);
    // An error is as good as a value: the target looks for panics and allocations.
    match call {
        0 => drop(frame::decode::<ApiVersionsResponse>(answer, 3, 0)),
        1 => drop(frame::decode::<FindCoordinatorResponse>(answer, 4, 0)),
        2 => drop(frame::decode::<ConsumerGroupHeartbeatResponse>(answer, 1, 0)),
        3 => drop(frame::decode::<OffsetCommitResponse>(answer, 9, 0)),
        4 => drop(frame::decode::<OffsetFetchResponse>(answer, 9, 0)),
        5 => drop(frame::decode::<OffsetCommitResponse>(answer, 8, 0)),
        6 => drop(frame::decode::<OffsetFetchResponse>(answer, 8, 0)),
        7 => drop(frame::decode::<MetadataResponse>(answer, 12, 0)),
        _ => {}
    }
}

#[cfg(test)]
#[path = "../../dev/fuzz/corpus.rs"]
mod corpus;

#[cfg(test)]
mod tests {
    use super::{corpus::each, *};

    #[test]
    fn corpus_decodes_without_panic() {
        each("coordinator", coordinator);
    }
}
