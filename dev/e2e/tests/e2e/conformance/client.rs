//! A client for single Kafka calls, encoded by kafka-protocol.

use bytes::{BufMut, Bytes, BytesMut};
use e2e::wait::{WAIT_LIMIT, until_eq, within};
use kafka_protocol::{
    messages::{
        ApiKey, ConsumerGroupHeartbeatRequest, FindCoordinatorRequest, FindCoordinatorResponse, GroupId,
        OffsetFetchRequest, RequestHeader, ResponseHeader, TopicName, offset_fetch_request::OffsetFetchRequestGroup,
    },
    protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A connection.
pub(crate) struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

// === impl Client ===

impl Client {
    /// Connects to the first of these nodes.
    pub(crate) async fn connect(brokers: &str) -> Self {
        let first = brokers.split(',').next().unwrap();
        let stream = within("a connection", WAIT_LIMIT, TcpStream::connect(first))
            .await
            .unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            correlation_id: 0,
        }
    }

    /// Connects to the coordinator of a group. Kafka creates `__consumer_offsets` on the first request.
    pub(crate) async fn to_coordinator(brokers: &str, group: &str) -> Self {
        let mut any = Self::connect(brokers).await;
        let request = FindCoordinatorRequest::default().with_key(text(group));
        let mut found = FindCoordinatorResponse::default();
        until_eq("a coordinator", WAIT_LIMIT, 0, async || {
            found = any.call(3, &request).await;
            found.error_code
        })
        .await;
        let mut coordinator = Self::connect(&format!("{}:{}", found.host.as_str(), found.port)).await;
        // The coordinator loads its partition of the offsets topic first.
        let fetch = OffsetFetchRequestGroup::default().with_group_id(self::group(group));
        let request = OffsetFetchRequest::default().with_groups(vec![fetch.with_topics(None)]);
        until_eq("a loaded coordinator", WAIT_LIMIT, 0, async || {
            coordinator.call(9, &request).await.groups[0].error_code
        })
        .await;
        coordinator
    }

    /// Sends a request and waits for the response.
    pub(crate) async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(text("e2e")));
        let mut body = BytesMut::new();
        let header_version = ApiKey::try_from(R::KEY).unwrap().request_header_version(version);
        header.encode(&mut body, header_version).unwrap();
        request.encode(&mut body, version).unwrap();
        let mut frame = BytesMut::new();
        frame.put_i32(i32::try_from(body.len()).unwrap());
        frame.put_slice(&body);

        let exchange = async {
            self.stream.write_all(&frame).await.unwrap();
            let length = self.stream.read_i32().await.unwrap();
            let mut response = vec![0; usize::try_from(length).unwrap()];
            self.stream.read_exact(&mut response).await.unwrap();
            Bytes::from(response)
        };
        let mut response = within("a response", WAIT_LIMIT, exchange).await;
        let header = ResponseHeader::decode(&mut response, R::Response::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, self.correlation_id);
        R::Response::decode(&mut response, version).unwrap()
    }
}

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(crate) fn group(id: &str) -> GroupId {
    GroupId(text(id))
}

pub(crate) fn topic(name: &str) -> TopicName {
    TopicName(text(name))
}

/// The heartbeat with which a member joins.
pub(crate) fn join(group: &str, member: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
    beat(group, member, 0)
        .with_rebalance_timeout_ms(60_000)
        .with_subscribed_topic_names(Some(topics.iter().map(|name| topic(name)).collect()))
        .with_topic_partitions(Some(vec![]))
}

/// A heartbeat without changes.
pub(crate) fn beat(id: &str, member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group(id))
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(-1)
        .with_subscribed_topic_names(None)
        .with_topic_partitions(None)
}
