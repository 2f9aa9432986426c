//! One request on its way through a handler.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::{Buf, Bytes};
use kafka_protocol::{
    error::ResponseError,
    messages::{ApiKey, BrokerId, TopicName},
    protocol::{Decodable, Encodable, StrBytes},
};
use uuid::Uuid;

use crate::{
    cluster::{Cluster, Node},
    partition::Asked,
    reply::{Reply, Unencodable},
    shape::{Malformed, Walk},
    staged::Staged,
    topics::Topic,
    versions::{self, Served},
};

/// Why a connection is closed over a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// Kafka closes the connection too: in an unknown version there is no answer the client could read.
    #[error("call {key} v{version} is not served")]
    Unsupported {
        /// The API key as it came.
        key: i16,
        /// The version as it came.
        version: i16,
    },
    /// The bytes are no request.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The bytes are no request, says the decoder.
    #[error("the request does not decode: {0}")]
    Undecodable(String),
    /// A bug in the broker.
    #[error(transparent)]
    Unencodable(#[from] Unencodable),
}

/// The start of a request, and its body.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) served: &'static Served,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: Bytes,
    pub(crate) body: Bytes,
}

impl Request {
    /// Reads the header, and checks that the lengths in the body are covered.
    ///
    /// `ApiVersions` of a version nobody knows comes back with a version below 0 and without a body: it has an answer
    /// (KIP-511).
    pub(crate) fn read(mut frame: Bytes) -> Result<Self, Refused> {
        let key = frame.try_get_i16().map_err(Malformed::from)?;
        let version = frame.try_get_i16().map_err(Malformed::from)?;
        let correlation_id = frame.try_get_i32().map_err(Malformed::from)?;
        let unsupported = Refused::Unsupported { key, version };
        let Some(served) = versions::find(key) else {
            return Err(unsupported);
        };
        if !served.takes(version) {
            let unknown = Request {
                served,
                version: -1,
                correlation_id,
                client_id: Bytes::new(),
                body: Bytes::new(),
            };
            return if served.api == ApiKey::ApiVersions {
                Ok(unknown)
            } else {
                Err(unsupported)
            };
        }
        let mut walk = Walk::new(&frame, version, version >= served.flexible_from);
        let client_id = frame.slice_ref(walk.client_id()?);
        let header_bytes = frame.len() - walk.tags()?.len();
        walk.fields(served.shape)?;
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

/// What a handler needs to know about a request beside its body.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// What all connections share.
    pub(crate) cluster: &'a Cluster,
    /// The node it came to.
    pub(crate) node: i32,
    /// The address the client reached it at.
    pub(crate) reached: SocketAddr,
    /// Where the client is.
    pub(crate) peer: IpAddr,
    /// What it calls itself; not always text.
    pub(crate) client_id: Bytes,
    /// Which call it is.
    pub(crate) api: ApiKey,
    /// In which version.
    pub(crate) version: i16,
    /// What the answer must carry.
    pub(crate) correlation_id: i32,
    /// What a test wants to happen to it.
    pub(crate) staged: Staged,
}

impl Call<'_> {
    /// Decodes the body.
    pub(crate) fn decode<R: Decodable>(&self, mut body: Bytes) -> Result<R, Refused> {
        R::decode(&mut body, self.version).map_err(|error| Refused::Undecodable(error.to_string()))
    }

    /// An answer with nothing in it yet.
    pub(crate) fn begin_reply(&self) -> Result<Reply, Refused> {
        Ok(Reply::new(self.api, self.version, self.correlation_id)?)
    }

    /// The answer.
    pub(crate) fn reply(&self, message: &impl Encodable) -> Result<Reply, Refused> {
        let mut reply = self.begin_reply()?;
        reply.encode(message)?;
        Ok(reply)
    }

    /// Fails if a test wants this call to fail.
    pub(crate) fn admit(&self) -> Result<(), ResponseError> {
        self.staged.refusal.map_or(Ok(()), Err)
    }

    /// Fails if a test wants this call to fail, or another node coordinates the group.
    pub(crate) fn admit_group(&self, group: &str) -> Result<(), ResponseError> {
        self.admit()?;
        match self.cluster.coordinator(group) {
            Some(coordinator) if coordinator.id == self.node => Ok(()),
            _ => Err(ResponseError::NotCoordinator),
        }
    }

    /// The throttle time to name in the answer, in ms.
    pub(crate) fn throttle_ms(&self) -> i32 {
        i32::try_from(self.staged.throttle.as_millis()).unwrap_or(i32::MAX)
    }

    /// Who asks a partition; `epoch` is the one the client knows, or -1.
    pub(crate) fn asked(&self, epoch: i32) -> Asked {
        Asked { node: self.node, epoch }
    }

    /// The topic a request names by its id if there is one, and else by its name.
    pub(crate) fn topic(&self, name: &TopicName, id: &Uuid) -> Result<std::sync::Arc<Topic>, ResponseError> {
        if id.is_nil() {
            self.cluster.topics.named(name)
        } else {
            self.cluster.topics.identified(id)
        }
    }

    /// The nodes, each with the host and port the client is to connect to.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (BrokerId, StrBytes, i32)> {
        self.cluster.nodes().into_iter().map(|node| self.located(&node))
    }

    /// A node with the host and port the client is to connect to.
    pub(crate) fn located(&self, node: &Node) -> (BrokerId, StrBytes, i32) {
        let (host, port) = self.address(node);
        (BrokerId(node.id), StrBytes::from_string(host), i32::from(port))
    }

    fn address(&self, node: &Node) -> (String, u16) {
        match &self.cluster.config.advertised {
            Some(advertised) if node.id == crate::cluster::FIRST_NODE => advertised.clone(),
            // A listener on all addresses is at the one the client came by.
            _ if node.addr.ip().is_unspecified() => (self.reached.ip().to_canonical().to_string(), node.addr.port()),
            _ => (node.addr.ip().to_string(), node.addr.port()),
        }
    }
}

/// The wait a client asks for; below 0 is 0.
pub(crate) fn wait(milliseconds: i32) -> Duration {
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0))
}
