use kafka_protocol::messages::{
    ApiVersionsResponse, ConsumerGroupHeartbeatResponse, FindCoordinatorResponse, OffsetCommitResponse,
    OffsetFetchResponse,
};
use proptest::prelude::*;

use super::*;

fn heartbeat(bytes: &[u8]) -> Result<ConsumerGroupHeartbeatResponse, Error> {
    decode(Bytes::copy_from_slice(bytes), 1, 5)
}

/// The answer to heartbeat 5, up to the length of its array of topics (a varint of the length plus one).
const UP_TO_TOPICS: &[u8] = b"\0\0\0\x05\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x01\x01";

#[test]
fn array_length_above_the_bytes_left_is_refused() {
    let none = [UP_TO_TOPICS, b"\x01\0\0"].concat();
    assert!(
        heartbeat(&none)
            .unwrap()
            .assignment
            .unwrap()
            .topic_partitions
            .is_empty()
    );
    // Two billion elements: kafka-protocol would reserve 100 GiB for them, and the process would end.
    for length in [&b"\xff\xff\xff\xff\x0f"[..], b"\x80\x80\x80\x80\x08", b"\x09"] {
        let bytes = [UP_TO_TOPICS, length, b"\0\0"].concat();
        assert!(
            matches!(heartbeat(&bytes), Err(Error::InvalidResponse(_))),
            "{length:?}"
        );
    }
}

/// Regression: the decoder reads a boolean with the same call as the bytes of a varint.
#[test]
fn boolean_before_a_length_does_not_hide_it() {
    // After the header: no error, no versions, no throttle time, and two tagged fields: a boolean and an array of two billion.
    let up_to_boolean = b"\0\0\0\x05\0\0\x01\0\0\0\0\x02\x03\x01";
    let long_zeroes = [0x80; 2 * VARINT_BYTES];
    for boolean in [b"\x01", b"\x80", b"\xff"] {
        let bytes = [&up_to_boolean[..], boolean, &long_zeroes, b"\x80\x80\x80\x80\x0f"].concat();
        let decoded = decode::<ApiVersionsResponse>(Bytes::from(bytes), 3, 5);
        assert!(matches!(decoded, Err(Error::InvalidResponse(_))), "{boolean:?}");
        let bytes = [&up_to_boolean[..], boolean, b"\0\x01\x01"].concat();
        assert!(
            decode::<ApiVersionsResponse>(Bytes::from(bytes), 3, 5).is_ok(),
            "{boolean:?}"
        );
    }
}

#[test]
fn string_that_ends_the_buffer_is_accepted() {
    let text = vec![b'x'; SMALL + 1];
    let mut rest = BoundedBuf {
        rest: Bytes::from([&b"\x82\x80\x04"[..], &text].concat()),
        last: [0; VARINT_BYTES],
    };
    for _ in 0..3 {
        rest.try_get_u8().unwrap();
    }
    assert_eq!(rest.remaining(), text.len());
}

#[test]
fn unknown_tagged_fields_are_ignored() {
    let tagged = [UP_TO_TOPICS, b"\x01\0\x01\x09\x02ab"].concat();
    assert!(heartbeat(&tagged).is_ok());
}

proptest! {
    #[test]
    fn random_bytes_decode_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from([&b"\0\0\0\x05\0"[..], &bytes].concat());
        let _ = decode::<ConsumerGroupHeartbeatResponse>(bytes.clone(), 1, 5);
        let _ = decode::<FindCoordinatorResponse>(bytes.clone(), 4, 5);
        let _ = decode::<OffsetCommitResponse>(bytes.clone(), 9, 5);
        let _ = decode::<OffsetFetchResponse>(bytes.clone(), 9, 5);
        let _ = decode::<ApiVersionsResponse>(bytes, 3, 5);
    }
}
