//! A request: its header, the context of its handler, and the response frame.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::{
    error::ResponseError,
    messages::{ApiKey, BrokerId, ResponseHeader, TopicName},
    protocol::{Decodable, Encodable, StrBytes},
};
use uuid::Uuid;

use crate::{
    apis::{self, ServedApi},
    cluster::{Cluster, FIRST_NODE, Node},
    layout::{Malformed, Walker},
    partition::{LeaderCheck, Partition},
    topics::Topic,
};

const LENGTH_BYTES: usize = 4;
/// Most responses fit.
const RESPONSE_BYTES: usize = 128;

/// Why a request closes its connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// Kafka closes the connection too: the client could not decode a response of an unsupported version.
    #[error("API {key} v{version} is not supported")]
    UnsupportedVersion {
        /// The API key of the request.
        key: i16,
        /// The version of the request.
        version: i16,
    },
    /// The lengths in the request are wrong.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The decoder failed.
    #[error("the request does not decode: {0}")]
    Decode(String),
    /// A bug in the broker.
    #[error("the response to {api:?} v{version} does not encode: {reason}")]
    Encode {
        /// The API.
        api: ApiKey,
        /// The version of the response.
        version: i16,
        /// The encoder's message.
        reason: String,
    },
}

/// A request with its header decoded.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) served: &'static ServedApi,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: Bytes,
    pub(crate) body: Bytes,
}

/// What a handler needs beside the request body.
#[derive(Debug)]
pub(crate) struct RequestContext<'a> {
    pub(crate) cluster: &'a Cluster,
    /// The id of the node that received the request.
    pub(crate) node: i32,
    /// The address that the client connected to.
    pub(crate) local_addr: SocketAddr,
    /// The address of the client.
    pub(crate) client_ip: IpAddr,
    /// The client id; not always UTF-8.
    pub(crate) client_id: Bytes,
    pub(crate) api: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    /// The error that a test injects.
    pub(crate) fault: Option<ResponseError>,
}

// === impl Request ===

impl Request {
    /// Decodes the header, and checks the lengths in the body.
    ///
    /// An unsupported version of `ApiVersions` gives version -1 and an empty body, because it has a response (KIP-511).
    pub(crate) fn parse(mut frame: Bytes) -> Result<Self, RequestError> {
        let key = frame.try_get_i16().map_err(Malformed::from)?;
        let version = frame.try_get_i16().map_err(Malformed::from)?;
        let correlation_id = frame.try_get_i32().map_err(Malformed::from)?;
        let unsupported = RequestError::UnsupportedVersion { key, version };
        let Some(served) = apis::find(key) else {
            return Err(unsupported);
        };
        if !served.supports(version) {
            let api_versions = Request {
                served,
                version: -1,
                correlation_id,
                client_id: Bytes::new(),
                body: Bytes::new(),
            };
            return if served.api == ApiKey::ApiVersions {
                Ok(api_versions)
            } else {
                Err(unsupported)
            };
        }
        let mut walker = Walker::new(&frame, version, version >= served.flexible_from);
        let client_id = frame.slice_ref(walker.skip_client_id()?);
        let header_bytes = frame.len() - walker.skip_tagged_fields()?.len();
        walker.skip_fields(served.layout)?;
        frame.advance(header_bytes);
        Ok(Request {
            served,
            version,
            correlation_id,
            client_id,
            body: frame,
        })
    }
}

// === impl RequestContext ===

impl RequestContext<'_> {
    /// Decodes the request body.
    pub(crate) fn decode<R: Decodable>(&self, mut body: Bytes) -> Result<R, RequestError> {
        R::decode(&mut body, self.version).map_err(|error| RequestError::Decode(error.to_string()))
    }

    /// Encodes the response as a frame with its length.
    pub(crate) fn respond(&self, response: &impl Encodable) -> Result<BytesMut, RequestError> {
        self.respond_as(self.version, response)
    }

    /// Encodes the response in another version than the request's.
    pub(crate) fn respond_as(&self, version: i16, response: &impl Encodable) -> Result<BytesMut, RequestError> {
        let mut frame = BytesMut::with_capacity(RESPONSE_BYTES);
        frame.put_i32(0);
        let header = ResponseHeader::default().with_correlation_id(self.correlation_id);
        header
            .encode(&mut frame, self.api.response_header_version(version))
            .and_then(|()| response.encode(&mut frame, version))
            .map_err(|error| RequestError::Encode {
                api: self.api,
                version,
                reason: error.to_string(),
            })?;
        // `handlers::fetch` keeps responses far below 2 GiB.
        let length = i32::try_from(frame.len() - LENGTH_BYTES).unwrap_or(i32::MAX);
        if let Some(prefix) = frame.first_chunk_mut() {
            *prefix = length.to_be_bytes();
        }
        Ok(frame)
    }

    /// The error that a test injects into this request.
    pub(crate) fn check_fault(&self) -> Result<(), ResponseError> {
        self.fault.map_or(Ok(()), Err)
    }

    /// An injected error, or `NOT_COORDINATOR` if another node coordinates the group.
    pub(crate) fn check_coordinator(&self, group: &str) -> Result<(), ResponseError> {
        self.check_fault()?;
        match self.cluster.coordinator(group) {
            Some(coordinator) if coordinator.id == self.node => Ok(()),
            _ => Err(ResponseError::NotCoordinator),
        }
    }

    /// The leader that the client expects; `current_leader_epoch` is -1 if the client names none.
    pub(crate) fn leader_check(&self, current_leader_epoch: i32) -> LeaderCheck {
        LeaderCheck {
            node: self.node,
            current_leader_epoch,
        }
    }

    /// The topic by its id, or by its name if the id is zero.
    pub(crate) fn topic(&self, name: &TopicName, id: &Uuid) -> Result<Arc<Topic>, ResponseError> {
        if id.is_nil() {
            self.cluster.topics.by_name(name)
        } else {
            self.cluster.topics.by_id(id)
        }
    }

    /// A partition of a topic that was looked up before, or an injected error.
    pub(crate) fn partition<'t>(
        &self,
        topic: &'t Result<Arc<Topic>, ResponseError>,
        index: i32,
    ) -> Result<&'t Arc<Partition>, ResponseError> {
        let topic = topic.as_ref().map_err(|error| *error)?;
        self.check_fault()?;
        topic.partition(index)
    }

    /// Id, host and port of a node, as the client is to connect to it.
    pub(crate) fn broker(&self, node: &Node) -> (BrokerId, StrBytes, i32) {
        let (host, port) = match &self.cluster.config.advertised {
            Some(advertised) if node.id == FIRST_NODE => advertised.clone(),
            // A listener on all addresses advertises the one that the client connected to.
            _ if node.addr.ip().is_unspecified() => (self.local_addr.ip().to_canonical().to_string(), node.addr.port()),
            _ => (node.addr.ip().to_string(), node.addr.port()),
        };
        (BrokerId(node.id), StrBytes::from_string(host), i32::from(port))
    }
}

/// A duration in a request; negative values are 0.
pub(crate) fn millis(milliseconds: i32) -> Duration {
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0))
}
