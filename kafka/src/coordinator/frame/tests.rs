use kafka_protocol::messages::{
    ApiVersionsResponse, ConsumerGroupHeartbeatResponse, FindCoordinatorResponse, OffsetCommitResponse,
    OffsetFetchResponse,
};
use proptest::prelude::*;

use super::*;

fn heartbeat(bytes: &[u8]) -> Result<ConsumerGroupHeartbeatResponse, Error> {
    decode(Bytes::copy_from_slice(bytes), 1, 5)
}

/// An answer to heartbeat 5 up to the number of its topics, which follows, plus one.
const UP_TO_TOPICS: &[u8] = b"\0\0\0\x05\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x01\x01";

#[test]
fn an_array_claims_no_more_than_there_is() {
    let none = [UP_TO_TOPICS, b"\x01\0\0"].concat();
    assert!(
        heartbeat(&none)
            .unwrap()
            .assignment
            .unwrap()
            .topic_partitions
            .is_empty()
    );
    // Two billion: the decoder alone would reserve 100 GiB for them, and the process would end.
    for claim in [&b"\xff\xff\xff\xff\x0f"[..], b"\x80\x80\x80\x80\x08", b"\x09"] {
        let bytes = [UP_TO_TOPICS, claim, b"\0\0"].concat();
        assert!(matches!(heartbeat(&bytes), Err(Error::Garbled(_))), "{claim:?}");
    }
}

/// Regression guard: the decoder reads a boolean as it reads the bytes of a varint.
#[test]
fn a_boolean_that_looks_like_the_start_of_a_claim_hides_none() {
    // After the header: no error, no calls, no throttling, and two tokens, a boolean and an array of two billion.
    let up_to_boolean = b"\0\0\0\x05\0\0\x01\0\0\0\0\x02\x03\x01";
    let long_zeroes = [0x80; 2 * VARINT_BYTES];
    for boolean in [b"\x01", b"\x80", b"\xff"] {
        let bytes = [&up_to_boolean[..], boolean, &long_zeroes, b"\x80\x80\x80\x80\x0f"].concat();
        let decoded = decode::<ApiVersionsResponse>(Bytes::from(bytes), 3, 5);
        assert!(matches!(decoded, Err(Error::Garbled(_))), "{boolean:?}");
        let bytes = [&up_to_boolean[..], boolean, b"\0\x01\x01"].concat();
        assert!(
            decode::<ApiVersionsResponse>(Bytes::from(bytes), 3, 5).is_ok(),
            "{boolean:?}"
        );
    }
}

#[test]
fn a_long_text_may_be_the_end() {
    let text = vec![b'x'; SMALL + 1];
    let mut rest = Covered {
        rest: Bytes::from([&b"\x82\x80\x04"[..], &text].concat()),
        last: [0; VARINT_BYTES],
    };
    for _ in 0..3 {
        rest.try_get_u8().unwrap();
    }
    assert_eq!(rest.remaining(), text.len());
}

#[test]
fn tagged_fields_from_the_future_are_passed_over() {
    let tagged = [UP_TO_TOPICS, b"\x01\0\x01\x09\x02ab"].concat();
    assert!(heartbeat(&tagged).is_ok());
}

proptest! {
    #[test]
    fn whatever_comes_is_an_answer_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from([&b"\0\0\0\x05\0"[..], &bytes].concat());
        let _ = decode::<ConsumerGroupHeartbeatResponse>(bytes.clone(), 1, 5);
        let _ = decode::<FindCoordinatorResponse>(bytes.clone(), 4, 5);
        let _ = decode::<OffsetCommitResponse>(bytes.clone(), 9, 5);
        let _ = decode::<OffsetFetchResponse>(bytes.clone(), 9, 5);
        let _ = decode::<ApiVersionsResponse>(bytes, 3, 5);
    }
}
