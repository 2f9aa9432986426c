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

#[test]
fn a_long_text_may_be_the_end() {
    let text = vec![b'x'; SMALL + 1];
    let mut rest = Covered {
        rest: Bytes::from([&b"\x82\x80\x04"[..], &text].concat()),
        varint: 0,
        shift: 0,
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
