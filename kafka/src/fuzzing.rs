//! Where hostile bytes come in, for `dev/fuzz`. Its corpus is run by the tests here, too.

use bytes::Bytes;
use kafka_protocol::messages::{
    ApiVersionsResponse, ConsumerGroupHeartbeatResponse, FindCoordinatorResponse, MetadataResponse,
    OffsetCommitResponse, OffsetFetchResponse,
};

use crate::coordinator::frame;

/// An answer of the group coordinator without its length; the first byte says to which call.
pub fn coordinator(bytes: &[u8]) {
    let Some((call, answer)) = bytes.split_first() else {
        return;
    };
    let answer = Bytes::copy_from_slice(answer);
    // Whether it can be read is not the question.
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
    fn nothing_in_the_corpus_does_harm() {
        each("coordinator", coordinator);
    }
}
