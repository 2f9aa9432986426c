//! Malformed requests close their own connection only.

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::{ApiKey, FetchRequest, MetadataRequest, ProduceRequest};
use tokio::io::AsyncWriteExt;

use crate::{
    fetch::fetch,
    support::{TestBroker, frame, start, within},
};

/// Sends the bytes, and expects the end of the connection without a response.
async fn assert_closes(broker: &TestBroker, bytes: &[u8], what: &str) {
    let mut connection = broker.connect().await;
    // The broker may close before it has read all bytes.
    let _ = within(connection.stream.write_all(bytes)).await;
    assert!(connection.frame().await.is_none(), "{what}");
}

async fn assert_serves(broker: &TestBroker) {
    let mut connection = broker.connect().await;
    assert_eq!(connection.call(5, &MetadataRequest::default()).await.brokers.len(), 1);
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
async fn invalid_frame_length_closes_connection() {
    let broker = start().await;
    for length in [-1, i32::MIN, 100_000_000, i32::MAX, i32::from_be_bytes(*b"HTTP")] {
        assert_closes(&broker, &length.to_be_bytes(), &format!("a length of {length}")).await;
    }
    assert_closes(&broker, b"GET / HTTP/1.1\r\n\r\n", "a wrong protocol").await;
    assert_closes(&broker, &framed(&[]), "an empty request").await;
    assert_closes(&broker, &framed(&[0, 3, 0]), "half a header").await;
    assert_serves(&broker).await;
}

#[tokio::test]
async fn unsupported_api_or_version_closes_connection() {
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
        assert_closes(&broker, &framed(&header(api, version)), &format!("{api:?} v{version}")).await;
    }
    assert_closes(
        &broker,
        &framed(&[0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff]),
        "an unknown API key",
    )
    .await;
    assert_serves(&broker).await;
}

#[tokio::test]
async fn truncated_request_closes_connection() {
    let broker = start().await;
    let complete = frame(11, 1, &fetch("ping", &[(0, 0)], 0));
    for length in 0..complete.len() {
        // A truncated frame.
        let mut connection = broker.connect().await;
        within(connection.stream.write_all(&complete[..length])).await.unwrap();
        within(connection.stream.shutdown()).await.unwrap();
        assert!(connection.frame().await.is_none(), "truncated to {length} bytes");
    }
    let body = &complete[4..];
    for length in 0..body.len() {
        // A complete frame with a truncated request.
        assert_closes(
            &broker,
            &framed(&body[..length]),
            &format!("{length} bytes of a request"),
        )
        .await;
    }
    assert_serves(&broker).await;
}

/// The decoder would reserve memory for the claimed number of elements.
#[tokio::test]
async fn array_longer_than_the_request_closes_connection() {
    let broker = start().await;
    for version in [0, 1, 8] {
        let mut bytes = header(ApiKey::Metadata, version);
        bytes.put_i32(i32::MAX);
        assert_closes(&broker, &framed(&bytes), &format!("a large array in v{version}")).await;
    }
    let mut bytes = header(ApiKey::Metadata, 12);
    bytes.put_u8(0);
    bytes.put_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert_closes(&broker, &framed(&bytes), "a large compact array").await;
    let mut bytes = header(ApiKey::Metadata, 12);
    bytes.put_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert_closes(&broker, &framed(&bytes), "many tagged fields").await;
    assert_serves(&broker).await;
}

#[tokio::test]
async fn broker_survives_random_changes_of_requests() {
    let broker = start().await;
    broker.topic("ping", 1).await;
    // xorshift64: the same bytes in every run.
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
        let mut connection = broker.connect().await;
        let _ = within(connection.stream.write_all(&bytes)).await;
        // Response or close. The shutdown ends a fetch with a long wait.
        let _ = within(connection.stream.shutdown()).await;
    }
    assert_serves(&broker).await;
    broker.stop().await;
}
