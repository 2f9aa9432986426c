//! A broker at a free port, with an rskafka client and with a bare connection.

use std::{collections::BTreeMap, net::SocketAddr, ops::Deref, sync::Arc, time::Duration};

use ::rskafka::{
    BackoffConfig,
    client::{
        Client, ClientBuilder,
        partition::{Compression, PartitionClient, UnknownTopicHandling},
    },
    record::Record,
};
use broker::{Broker, Config};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use chrono::{DateTime, Utc};
use kafka_protocol::{
    messages::{ApiKey, RequestHeader, ResponseHeader, TopicName},
    protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

/// The limit of each wait.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// Fails the test if `wait` takes longer than [`TIMEOUT`].
pub(crate) async fn within<T>(wait: impl Future<Output = T>) -> T {
    timeout(TIMEOUT, wait).await.expect("timed out")
}

/// A broker that runs until it is dropped.
pub(crate) struct TestBroker {
    pub(crate) addr: SocketAddr,
    pub(crate) faults: broker::Faults,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

pub(crate) async fn start() -> TestBroker {
    start_with(Config::default()).await
}

pub(crate) async fn start_with(config: Config) -> TestBroker {
    let broker = Broker::bind_with("127.0.0.1:0", config).await.unwrap();
    let (stop, stopped) = oneshot::channel();
    TestBroker {
        addr: broker.local_addr(),
        faults: broker.faults(),
        stop: Some(stop),
        task: tokio::spawn(broker.run(async { drop(stopped.await) })),
    }
}

impl TestBroker {
    /// An rskafka client with a short backoff.
    pub(crate) async fn client(&self) -> Client {
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(5),
            max_backoff: Duration::from_millis(50),
            base: 2.0,
            deadline: Some(Duration::from_secs(2)),
        };
        let builder = ClientBuilder::new(vec![self.addr.to_string()]).backoff_config(backoff);
        within(builder.build()).await.unwrap()
    }

    /// Creates a topic.
    pub(crate) async fn topic(&self, name: &str, partitions: i32) -> Topic {
        let client = self.client().await;
        let controller = client.controller_client().unwrap();
        within(controller.create_topic(name, partitions, -1, 1000))
            .await
            .unwrap();
        Topic {
            name: name.to_owned(),
            client: Arc::new(client),
        }
    }

    /// A bare connection.
    pub(crate) async fn connect(&self) -> Connection {
        Connection::to(self.addr).await
    }

    /// Shuts the broker down.
    pub(crate) async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        within(&mut self.task).await.unwrap();
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A topic and an rskafka client.
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) client: Arc<Client>,
}

impl Topic {
    pub(crate) async fn partition(&self, index: i32) -> Partition {
        let client = self
            .client
            .partition_client(self.name.as_str(), index, UnknownTopicHandling::Error);
        Partition(within(client).await.unwrap())
    }
}

/// rskafka's client of one partition.
pub(crate) struct Partition(PartitionClient);

impl Deref for Partition {
    type Target = PartitionClient;

    fn deref(&self) -> &PartitionClient {
        &self.0
    }
}

impl Partition {
    /// Produces one batch with these values, and gives their offsets.
    pub(crate) async fn write(&self, values: &[&str]) -> Vec<i64> {
        let records = values.iter().map(|value| record(value, Utc::now())).collect();
        within(self.produce(records, Compression::NoCompression)).await.unwrap()
    }

    /// The values from `offset` on, and the high watermark.
    pub(crate) async fn values(&self, offset: i64) -> (Vec<String>, i64) {
        let (records, watermark) = within(self.fetch_records(offset, 1..1_000_000, 0)).await.unwrap();
        let value = |record: Record| String::from_utf8(record.value.unwrap()).unwrap();
        (
            records.into_iter().map(|record| value(record.record)).collect(),
            watermark,
        )
    }
}

pub(crate) fn record(value: &str, timestamp: DateTime<Utc>) -> Record {
    Record {
        key: None,
        value: Some(value.into()),
        headers: BTreeMap::new(),
        timestamp,
    }
}

pub(crate) fn name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// A connection that sends and receives frames.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    correlation_id: i32,
}

impl Connection {
    /// A bare connection to a node.
    pub(crate) async fn to(addr: SocketAddr) -> Connection {
        let stream = within(TcpStream::connect(addr)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Connection {
            stream,
            correlation_id: 0,
        }
    }

    /// Sends a request, and receives its response.
    pub(crate) async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request).await;
        self.receive::<R>(version).await
    }

    /// Sends a request.
    pub(crate) async fn send<R: Request>(&mut self, version: i16, request: &R) {
        self.correlation_id += 1;
        let frame = frame(version, self.correlation_id, request);
        within(self.stream.write_all(&frame)).await.unwrap();
    }

    /// Receives the response to the last request.
    pub(crate) async fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        let mut frame = self.frame().await.expect("the connection was closed");
        let header_version = R::Response::header_version(version);
        let header = ResponseHeader::decode(&mut frame, header_version).unwrap();
        assert_eq!(header.correlation_id, self.correlation_id);
        let response = R::Response::decode(&mut frame, version).unwrap();
        assert_eq!(
            frame.remaining(),
            0,
            "bytes after the response to {} v{version}",
            R::KEY
        );
        response
    }

    /// The next frame without its length. None if the connection is closed.
    pub(crate) async fn frame(&mut self) -> Option<Bytes> {
        let length = within(self.stream.read_i32()).await.ok()?;
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        within(self.stream.read_exact(&mut frame)).await.ok()?;
        Some(frame.into())
    }
}

/// An encoded request with its length.
pub(crate) fn frame<R: Request>(version: i16, correlation_id: i32, request: &R) -> Bytes {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id);
    let mut body = BytesMut::new();
    let header_version = ApiKey::try_from(R::KEY).unwrap().request_header_version(version);
    header.encode(&mut body, header_version).unwrap();
    request.encode(&mut body, version).unwrap();
    let mut frame = BytesMut::new();
    frame.put_i32(i32::try_from(body.len()).unwrap());
    frame.put_slice(&body);
    frame.freeze()
}
