//! A scripted broker for unit tests.

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

use crate::{cluster::Cluster, coordinator::Coordinator, security::Security};

/// A request to the broker.
#[derive(Debug, Clone)]
pub(crate) struct ReceivedRequest {
    pub(crate) key: ApiKey,
    version: i16,
    correlation: i32,
    body: Bytes,
    /// The number of its connection, in the order of their arrival.
    pub(crate) connection: usize,
}

/// How the broker reacts to a request.
#[derive(Debug)]
pub(crate) enum Reaction {
    /// Sends these bytes as they are.
    Bytes(Bytes),
    /// Never answers.
    Silence,
    Close,
}

/// A scripted broker, which is closed when dropped.
#[derive(Debug)]
pub(crate) struct ScriptedBroker {
    pub(crate) port: u16,
    requests: Arc<Mutex<Vec<ReceivedRequest>>>,
    _tasks: Tasks,
}

// === impl ReceivedRequest ===

impl ReceivedRequest {
    pub(crate) fn decode<R: Decodable>(&self) -> R {
        R::decode(&mut self.body.clone(), self.version).unwrap()
    }

    /// The answer to this request.
    pub(crate) fn answer<A: Encodable + HeaderVersion>(&self, answer: &A) -> Reaction {
        self.answer_as(self.correlation, answer)
    }

    /// An answer with another correlation id.
    pub(crate) fn answer_as<A: Encodable + HeaderVersion>(&self, correlation: i32, answer: &A) -> Reaction {
        let mut body = BytesMut::new();
        let header = ResponseHeader::default().with_correlation_id(correlation);
        header.encode(&mut body, A::header_version(self.version)).unwrap();
        answer.encode(&mut body, self.version).unwrap();
        Reaction::framed(&body)
    }

    /// The usual answer to `ApiVersions` and `FindCoordinator`, with the coordinator at `port`.
    pub(crate) fn usual_answer(&self, port: u16) -> Option<Reaction> {
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

/// An answer to `ApiVersions` with every version of these calls.
pub(crate) fn versions(keys: &[ApiKey]) -> ApiVersionsResponse {
    let supported = |key: &ApiKey| ApiVersion::default().with_api_key(*key as i16).with_max_version(20);
    ApiVersionsResponse::default().with_api_keys(keys.iter().map(supported).collect())
}

// === impl Reaction ===

impl Reaction {
    pub(crate) fn framed(body: &[u8]) -> Self {
        let mut frame = BytesMut::new();
        frame.put_i32(body.len().try_into().unwrap());
        frame.put_slice(body);
        Self::Bytes(frame.freeze())
    }
}

// === impl ScriptedBroker ===

impl ScriptedBroker {
    /// A broker that is the coordinator itself. `script` answers all other calls.
    pub(crate) async fn coordinator(mut script: impl FnMut(&ReceivedRequest) -> Reaction + Send + 'static) -> Self {
        Self::new(move |request, port| request.usual_answer(port).unwrap_or_else(|| script(request))).await
    }

    /// A broker for which `script` gives every answer, from the request and the broker's port.
    pub(crate) async fn new(script: impl FnMut(&ReceivedRequest, u16) -> Reaction + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = Arc::new(Mutex::new(script));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        let tasks = Tasks::default();
        tasks.spawn(async move {
            let connections = Tasks::default();
            for number in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (script, log) = (Arc::clone(&script), Arc::clone(&log));
                connections.spawn(async move {
                    while let Some(request) = read_request(&mut stream, number).await {
                        log.lock().push(request.clone());
                        let reaction = (*script.lock())(&request, port);
                        match reaction {
                            // The client may have closed the connection, which its test checks.
                            Reaction::Bytes(bytes) => _ = stream.write_all(&bytes).await,
                            Reaction::Silence => std::future::pending().await,
                            Reaction::Close => return,
                        }
                    }
                });
            }
        });
        Self {
            port,
            requests,
            _tasks: tasks,
        }
    }

    pub(crate) fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A cluster of which this is the one broker.
    pub(crate) fn cluster(&self) -> Cluster {
        Cluster::new("worker", vec![self.addr()], Security::default(), Vec::new())
    }

    /// A client of this broker, for the group `g`.
    pub(crate) fn client(&self) -> Coordinator {
        Coordinator::new(&Arc::new(self.cluster()), "g".to_owned())
    }

    /// The requests of one call so far.
    pub(crate) fn requests(&self, key: ApiKey) -> Vec<ReceivedRequest> {
        let requests = self.requests.lock();
        requests.iter().filter(|request| request.key == key).cloned().collect()
    }
}

async fn read_request(stream: &mut TcpStream, connection: usize) -> Option<ReceivedRequest> {
    let length = stream.read_i32().await.ok()?;
    let mut frame = vec![0; length.try_into().unwrap()];
    stream.read_exact(&mut frame).await.ok()?;
    let mut body = Bytes::from(frame);
    // Every flexible version has a header of version 2; the handshake of SASL is not flexible.
    let is_handshake = body.starts_with(&(ApiKey::SaslHandshake as i16).to_be_bytes());
    let header = RequestHeader::decode(&mut body, if is_handshake { 1 } else { 2 }).unwrap();
    assert_eq!(header.client_id.as_deref(), Some("worker"));
    Some(ReceivedRequest {
        key: header.request_api_key.try_into().unwrap(),
        version: header.request_api_version,
        correlation: header.correlation_id,
        body,
        connection,
    })
}
