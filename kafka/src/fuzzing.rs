//! Where hostile bytes come in, for `dev/fuzz`. Its corpus is run by the tests here, too.

use bytes::Bytes;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatResponse, FetchResponse, FindCoordinatorResponse, MetadataResponse, OffsetCommitResponse,
    OffsetFetchResponse, ProduceResponse, SaslHandshakeResponse,
};

use crate::{
    connection,
    record_batch::{CHECKED_FROM, PREFIX_BYTES, RecordBatches},
};

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

/// The batches of a fetch: as they are, and with the checksums that fit, without which hardly any would be decoded.
///
/// # Panics
/// When one does not go on behind the one before it.
pub fn batches(bytes: &[u8]) {
    decode(Bytes::copy_from_slice(bytes));
    let mut checked = bytes.to_vec();
    set_checksums(&mut checked);
    decode(checked.into());
}

fn decode(bytes: Bytes) {
    for batch in RecordBatches::new(bytes) {
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

fn set_checksums(mut bytes: &mut [u8]) {
    while let Some(length) = bytes.get(8..).and_then(|bytes| bytes.first_chunk()) {
        let end = usize::try_from(i32::from_be_bytes(*length)).map(|length| length + PREFIX_BYTES);
        let Some((batch, rest)) = end.ok().and_then(|end| bytes.split_at_mut_checked(end)) else {
            return;
        };
        if let Some((header, checked)) = batch.split_at_mut_checked(CHECKED_FROM)
            && let Some(checksum) = header.last_chunk_mut()
        {
            *checksum = crc32c::crc32c(checked).to_be_bytes();
        }
        bytes = rest;
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
