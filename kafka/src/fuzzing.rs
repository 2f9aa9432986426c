//! Where hostile bytes come in, for `dev/fuzz`. Its corpus is run by the tests here, too.

use bytes::Bytes;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatResponse, FetchResponse, FindCoordinatorResponse, MetadataResponse, OffsetCommitResponse,
    OffsetFetchResponse, ProduceResponse, SaslHandshakeResponse,
};

use crate::{connection, record_batch::RecordBatches};

/// The body of a response; the first byte says to which call.
pub fn response(bytes: &[u8]) {
    let Some((call, body)) = bytes.split_first() else {
        return;
    };
    let body = Bytes::copy_from_slice(body);
    // Whether it can be decoded is not the question.
    match call {
        0 => drop(connection::decode::<MetadataResponse>(body, 12)),
        1 => drop(connection::decode::<FindCoordinatorResponse>(body, 4)),
        2 => drop(connection::decode::<ConsumerGroupHeartbeatResponse>(body, 1)),
        3 => drop(connection::decode::<OffsetCommitResponse>(body, 9)),
        4 => drop(connection::decode::<OffsetFetchResponse>(body, 9)),
        5 => drop(connection::decode::<FetchResponse>(body, 12)),
        6 => drop(connection::decode::<ProduceResponse>(body, 12)),
        7 => drop(connection::decode::<SaslHandshakeResponse>(body, 1)),
        _ => {}
    }
}

/// The batches of a fetch.
///
/// # Panics
/// When one does not go on behind the one before it.
pub fn batches(bytes: &[u8]) {
    for batch in RecordBatches::new(Bytes::copy_from_slice(bytes)) {
        match batch {
            Ok(batch) => {
                assert!(batch.next_offset > batch.base_offset || batch.base_offset == i64::MAX);
                let _ = batch.transaction_end();
                for record in batch.decode().into_iter().flatten() {
                    assert!(record.headers().iter().count() == record.headers().len());
                }
            }
            Err(corrupt) => assert!(corrupt.next_offset > corrupt.base_offset || corrupt.base_offset == i64::MAX),
        }
    }
}

#[cfg(test)]
#[path = "../../dev/fuzz/corpus.rs"]
mod corpus;

#[cfg(test)]
mod tests {
    use super::{corpus::each, *};

    #[test]
    fn corpus_does_no_harm() {
        each("response", response);
        each("batches", batches);
    }
}
