//! Plays brokers to the tests: a listener whose answers are scripted.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        ApiKey, ApiVersionsResponse, FindCoordinatorResponse, RequestHeader, ResponseHeader,
        api_versions_response::ApiVersion, find_coordinator_response,
    },
    protocol::{Decodable, Encodable, HeaderVersion, StrBytes},
};
use parking_lot::Mutex;
use shared::tasks::Tasks;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::Coordinator;

/// What a peer was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) key: ApiKey,
    version: i16,
    correlation: i32,
    body: Bytes,
    /// Which connection it came on, in the order of their arrival.
    pub(crate) connection: usize,
}

/// What a peer does about it.
#[derive(Debug)]
pub(crate) enum Reply {
    /// These bytes, and nothing added.
    Bytes(Bytes),
    /// Nothing, for ever.
    Silence,
    Close,
}

/// A broker that is played; it goes away when dropped.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    _tasks: Tasks,
}

// === impl Asked ===

impl Asked {
    pub(crate) fn request<R: Decodable>(&self) -> R {
        R::decode(&mut self.body.clone(), self.version).unwrap()
    }

    /// An answer as it should be.
    pub(crate) fn answer<A: Encodable + HeaderVersion>(&self, answer: &A) -> Reply {
        self.answer_as(self.correlation, answer)
    }

    /// An answer to some other call.
    pub(crate) fn answer_as<A: Encodable + HeaderVersion>(&self, correlation: i32, answer: &A) -> Reply {
        let mut body = BytesMut::new();
        let header = ResponseHeader::default().with_correlation_id(correlation);
        header.encode(&mut body, A::header_version(self.version)).unwrap();
        answer.encode(&mut body, self.version).unwrap();
        Reply::framed(&body)
    }

    /// What every broker answers, the group's coordinator being on `port`: versions and where the coordinator is.
    pub(crate) fn as_usual(&self, port: u16) -> Option<Reply> {
        match self.key {
            ApiKey::ApiVersions => Some(self.answer(&versions(&[
                ApiKey::FindCoordinator,
                ApiKey::ConsumerGroupHeartbeat,
                ApiKey::OffsetCommit,
                ApiKey::OffsetFetch,
                ApiKey::Metadata,
            ]))),
            ApiKey::FindCoordinator => {
                let found = find_coordinator_response::Coordinator::default()
                    .with_host(StrBytes::from_static_str("127.0.0.1"))
                    .with_port(i32::from(port));
                Some(self.answer(&FindCoordinatorResponse::default().with_coordinators(vec![found])))
            }
            _ => None,
        }
    }
}

/// An answer to `ApiVersions`: every version of these calls.
pub(crate) fn versions(keys: &[ApiKey]) -> ApiVersionsResponse {
    let known = |key: &ApiKey| ApiVersion::default().with_api_key(*key as i16).with_max_version(20);
    ApiVersionsResponse::default().with_api_keys(keys.iter().map(known).collect())
}

// === impl Reply ===

impl Reply {
    pub(crate) fn framed(body: &[u8]) -> Self {
        let mut frame = BytesMut::new();
        frame.put_i32(body.len().try_into().unwrap());
        frame.put_slice(body);
        Self::Bytes(frame.freeze())
    }
}

// === impl Peer ===

impl Peer {
    /// A broker that is the coordinator itself; `script` is asked for what is not as usual.
    pub(crate) async fn coordinator(mut script: impl FnMut(&Asked) -> Reply + Send + 'static) -> Self {
        Self::new(move |asked, port| asked.as_usual(port).unwrap_or_else(|| script(asked))).await
    }

    /// A broker for which `script` gives every answer, told its own port.
    pub(crate) async fn new(script: impl FnMut(&Asked, u16) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = Arc::new(Mutex::new(script));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let tasks = Tasks::default();
        tasks.spawn(async move {
            let connections = Tasks::default();
            for number in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (script, log) = (Arc::clone(&script), Arc::clone(&log));
                connections.spawn(async move {
                    while let Some(asked) = next(&mut stream, number).await {
                        log.lock().push(asked.clone());
                        let reply = (*script.lock())(&asked, port);
                        match reply {
                            // The other side may be gone, which is for its test to judge.
                            Reply::Bytes(bytes) => _ = stream.write_all(&bytes).await,
                            Reply::Silence => std::future::pending().await,
                            Reply::Close => return,
                        }
                    }
                });
            }
        });
        Self {
            port,
            asked,
            _tasks: tasks,
        }
    }

    pub(crate) fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A client of this one, in the group `g`.
    pub(crate) fn client(&self) -> Coordinator {
        Coordinator::new("worker", vec![self.addr()], "g".to_owned())
    }

    /// What it was asked with this key.
    pub(crate) fn asked(&self, key: ApiKey) -> Vec<Asked> {
        let asked = self.asked.lock();
        asked.iter().filter(|it| it.key == key).cloned().collect()
    }
}

async fn next(stream: &mut TcpStream, connection: usize) -> Option<Asked> {
    let length = stream.read_i32().await.ok()?;
    let mut frame = vec![0; length.try_into().unwrap()];
    stream.read_exact(&mut frame).await.ok()?;
    let mut body = Bytes::from(frame);
    // Every call made here has a header of version 2.
    let header = RequestHeader::decode(&mut body, 2).unwrap();
    assert_eq!(header.client_id.as_deref(), Some("worker"));
    Some(Asked {
        key: header.request_api_key.try_into().unwrap(),
        version: header.request_api_version,
        correlation: header.correlation_id,
        body,
        connection,
    })
}
