//! Bytes that are no requests: they cost their own connection, and nobody else notices.

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::{ApiKey, FetchRequest, MetadataRequest, ProduceRequest};
use tokio::io::AsyncWriteExt;

use crate::{
    fetch::fetch,
    support::{Running, frame, start, within},
};

/// Sends the bytes and expects the connection to be closed without an answer.
async fn closes(broker: &Running, bytes: &[u8], what: &str) {
    let mut wire = broker.wire().await;
    // The broker may close before it has taken everything in.
    let _ = within(wire.stream.write_all(bytes)).await;
    assert!(wire.frame().await.is_none(), "{what}");
}

async fn lives(broker: &Running) {
    let mut wire = broker.wire().await;
    assert_eq!(wire.call(5, &MetadataRequest::default()).await.brokers.len(), 1);
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&i32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

fn header(api: ApiKey, version: i16) -> BytesMut {
    let mut bytes = BytesMut::new();
    bytes.put_i16(api as i16);
    bytes.put_i16(version);
    bytes.put_i32(1);
    bytes.put_i16(-1);
    bytes
}

#[tokio::test]
async fn impossible_lengths_close() {
    let broker = start().await;
    for length in [-1, i32::MIN, 100_000_000, i32::MAX, i32::from_be_bytes(*b"HTTP")] {
        closes(&broker, &length.to_be_bytes(), &format!("a length of {length}")).await;
    }
    closes(&broker, b"GET / HTTP/1.1\r\n\r\n", "a wrong protocol").await;
    closes(&broker, &framed(&[]), "an empty request").await;
    closes(&broker, &framed(&[0, 3, 0]), "half a header").await;
    lives(&broker).await;
}

#[tokio::test]
async fn calls_that_are_not_served_close() {
    let broker = start().await;
    for (api, version) in [
        (ApiKey::Metadata, 99),
        (ApiKey::Metadata, -1),
        (ApiKey::Produce, 2),
        (ApiKey::Fetch, 3),
        (ApiKey::Fetch, 17),
        (ApiKey::SaslHandshake, 1),
        (ApiKey::JoinGroup, 5),
    ] {
        closes(&broker, &framed(&header(api, version)), &format!("{api:?} v{version}")).await;
    }
    closes(
        &broker,
        &framed(&[0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff]),
        "an unknown call",
    )
    .await;
    lives(&broker).await;
}

#[tokio::test]
async fn cut_requests_close() {
    let broker = start().await;
    let whole = frame(11, 1, &fetch("ping", &[(0, 0)], 0));
    for length in 0..whole.len() {
        // The frame ends early and so does the connection.
        let mut wire = broker.wire().await;
        within(wire.stream.write_all(&whole[..length])).await.unwrap();
        within(wire.stream.shutdown()).await.unwrap();
        assert!(wire.frame().await.is_none(), "cut at {length}");
    }
    let body = &whole[4..];
    for length in 0..body.len() {
        // The frame is whole, what is in it is not.
        closes(
            &broker,
            &framed(&body[..length]),
            &format!("{length} bytes of a request"),
        )
        .await;
    }
    lives(&broker).await;
}

/// Regression guard for the decoder's habit of reserving what is claimed.
#[tokio::test]
async fn claims_of_large_arrays_close() {
    let broker = start().await;
    for version in [0, 1, 8] {
        let mut bytes = header(ApiKey::Metadata, version);
        bytes.put_i32(i32::MAX);
        closes(&broker, &framed(&bytes), &format!("a large array in v{version}")).await;
    }
    let mut bytes = header(ApiKey::Metadata, 12);
    bytes.put_u8(0);
    bytes.put_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
    closes(&broker, &framed(&bytes), "a large compact array").await;
    let mut bytes = header(ApiKey::Metadata, 12);
    bytes.put_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
    closes(&broker, &framed(&bytes), "many tagged fields").await;
    lives(&broker).await;
}

#[tokio::test]
async fn garbage_never_harms_the_broker() {
    let broker = start().await;
    broker.topic("ping", 1).await;
    // xorshift64: the same garbage every time.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let samples = [
        frame(11, 1, &fetch("ping", &[(0, 0)], 0)),
        frame(12, 1, &fetch("ping", &[(0, 0)], 0)),
        frame(8, 1, &ProduceRequest::default().with_acks(-1)),
        frame(9, 1, &MetadataRequest::default()),
        frame(4, 1, &FetchRequest::default()),
    ];
    for round in 0..500 {
        let mut bytes = samples[round % samples.len()].to_vec();
        for _ in 0..1 + random() % 4 {
            let at = 4 + usize::try_from(random()).unwrap() % (bytes.len() - 4);
            bytes[at] = random().to_le_bytes()[0];
        }
        let mut wire = broker.wire().await;
        let _ = within(wire.stream.write_all(&bytes)).await;
        // Answered or closed; a changed wait is cut short by hanging up.
        let _ = within(wire.stream.shutdown()).await;
    }
    lives(&broker).await;
    broker.stop().await;
}
