//! What request and reply say of each other in their headers: every name, and its bytes, for both halves.
//!
//! | dialect | correlation | reply topic | reply partition |
//! |---|---|---|---|
//! | common | `kafka_correlationId`, text | `kafka_replyTopic` | `pingpong_replyPartition`, decimal, unless 0 |
//! | Spring | `kafka_correlationId`, text | `kafka_replyTopic` | `kafka_replyPartition`, 4 bytes big-endian |
//! | NestJS | `kafka_correlationId`, text | `kafka_replyTopic` | `kafka_replyPartition`, decimal |
//! | SmallRye | `REPLY_CORRELATION_ID`, text | `REPLY_TOPIC` | `REPLY_PARTITION`, 4 bytes big-endian |
//!
//! - The correlation id is a UUID in its 36 ASCII characters, in every dialect. Spring's own clients write 16 raw bytes
//!   by default, but a Spring listener sends back whatever bytes came, and only text survives a service that takes
//!   headers for strings.
//! - Spring reads four bytes or more of `kafka_replyPartition` as a number and fails on fewer, NestJS reads decimal: no
//!   bytes suit both. So the common dialect keeps off that name.
//! - The other three always say the partition, 0 too: where it is not said, their producers choose one.
//! - A header name is there once: the client keeps headers in a map.

mod deadline;
mod reply_to;

use std::collections::BTreeMap;

use clap::ValueEnum;
use uuid::Uuid;

use self::deadline::DEADLINE;
pub use self::{
    deadline::Deadline,
    reply_to::{Malformed, ReplyTo},
};

/// Headers of a record.
pub type Headers = BTreeMap<String, Vec<u8>>;

/// W3C's trace context: where the caller is in its trace.
pub const TRACEPARENT: &str = "traceparent";

/// W3C's trace context: what the vendors add to it.
pub const TRACESTATE: &str = "tracestate";

/// Ours: the key of the records with which workers say that they are there. It is no UUID, so whoever does not know it takes it for nobody's reply.
pub const HEARTBEAT_KEY: &[u8] = b"pingpong_worker";

/// Ours: the partition for the reply, decimal.
const OWN_REPLY_PARTITION: &str = "pingpong_replyPartition";

/// Spring's `KafkaHeaders.CORRELATION_ID`, and NestJS's.
const CORRELATION_ID: &str = "kafka_correlationId";

/// Spring's `KafkaHeaders.REPLY_TOPIC`, and NestJS's.
const REPLY_TOPIC: &str = "kafka_replyTopic";

/// Spring's `KafkaHeaders.REPLY_PARTITION` (`ByteBuffer.getInt`), and NestJS's (`parseFloat`).
const REPLY_PARTITION: &str = "kafka_replyPartition";

/// NestJS's `KafkaHeaders.NEST_ERR`: the handler failed; the value is its error as text or JSON.
const NEST_ERR: &str = "kafka_nest-err";

/// NestJS's `KafkaHeaders.NEST_IS_DISPOSED`: there are no more replies to this request.
const NEST_IS_DISPOSED: &str = "kafka_nest-is-disposed";

/// SmallRye's `KafkaRequestReply.DEFAULT_REPLY_CORRELATION_ID_HEADER`.
const SMALLRYE_CORRELATION_ID: &str = "REPLY_CORRELATION_ID";

/// SmallRye's `KafkaRequestReply.DEFAULT_REPLY_TOPIC_HEADER`.
const SMALLRYE_REPLY_TOPIC: &str = "REPLY_TOPIC";

/// SmallRye's `KafkaRequestReply.DEFAULT_REPLY_PARTITION_HEADER` (`replyPartitionToBytes`).
const SMALLRYE_REPLY_PARTITION: &str = "REPLY_PARTITION";

/// Whose headers a request has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// What Spring and NestJS both understand.
    Common,
    /// Spring Kafka's.
    Spring,
    /// NestJS's.
    Nest,
    /// SmallRye Reactive Messaging's (Quarkus).
    #[value(name = "smallrye")]
    SmallRye,
    /// No headers: the record key is all there is, and replies go where the contract says.
    None,
}

/// What all requests of one gateway say in their headers, but for the id.
#[derive(Debug, Default)]
pub struct Template {
    /// The correlation is empty.
    headers: Headers,
    /// The name of its header; `None` without headers.
    correlation: Option<&'static str>,
}

// === impl Dialect ===

impl Dialect {
    /// For requests whose replies belong into this partition of this topic.
    #[must_use]
    pub fn template(self, topic: &str, partition: i32) -> Template {
        let (correlation, topic_name) = match self {
            Self::None => return Template::default(),
            Self::SmallRye => (SMALLRYE_CORRELATION_ID, SMALLRYE_REPLY_TOPIC),
            Self::Common | Self::Spring | Self::Nest => (CORRELATION_ID, REPLY_TOPIC),
        };
        let decimal = || partition.to_string().into_bytes();
        let big_endian = || partition.to_be_bytes().to_vec();
        let place = match self {
            Self::None => None,
            Self::Common => (partition != 0).then(|| (OWN_REPLY_PARTITION, decimal())),
            Self::Spring => Some((REPLY_PARTITION, big_endian())),
            Self::Nest => Some((REPLY_PARTITION, decimal())),
            Self::SmallRye => Some((SMALLRYE_REPLY_PARTITION, big_endian())),
        };
        let id = (correlation, Vec::new());
        let topic = (topic_name, topic.as_bytes().to_vec());
        let headers = [id, topic].into_iter().chain(place);
        Template {
            headers: headers.map(|(name, bytes)| (name.to_owned(), bytes)).collect(),
            correlation: Some(correlation),
        }
    }
}

// === impl Template ===

impl Template {
    /// Says how long callers wait, where there are headers at all.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Deadline<'_>) -> Self {
        if self.correlation.is_some() {
            deadline.write(&mut self.headers);
        }
        self
    }

    /// The headers of the request with this id.
    #[must_use]
    pub fn headers(&self, id: Uuid) -> Headers {
        let mut headers = self.headers.clone();
        if let Some(bytes) = self.correlation.and_then(|name| headers.get_mut(name)) {
            bytes.extend_from_slice(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
        }
        headers
    }
}

/// The request that a reply answers, if it can be one of ours: what its correlation header says, as 36 ASCII
/// characters or 16 raw bytes; without such a header, its key.
///
/// A header that is no UUID is somebody else's, and the key does not count then: a service that asks another one on the
/// way may well keep the key, but gives its own request an id of its own.
#[must_use]
pub fn correlation(headers: &Headers, key: Option<&[u8]>) -> Option<Uuid> {
    match get(headers, [CORRELATION_ID, SMALLRYE_CORRELATION_ID]) {
        Some((_, bytes)) => Uuid::from_slice(bytes).ok().or_else(|| uuid_of_text(bytes)),
        None => uuid_of_text(key?),
    }
}

/// What a reply says of a handler that failed: the error's text.
#[must_use]
pub fn failure(headers: &Headers) -> Option<&[u8]> {
    headers.get(NEST_ERR).map(Vec::as_slice)
}

/// Whether a record is one, by its key.
#[must_use]
pub fn is_heartbeat(key: Option<&[u8]>) -> bool {
    key == Some(HEARTBEAT_KEY)
}

/// 36 ASCII characters of a UUID. (Shorter forms of one are somebody else's.)
fn uuid_of_text(bytes: &[u8]) -> Option<Uuid> {
    if bytes.len() != 36 {
        return None;
    }
    Uuid::try_parse_ascii(bytes).ok()
}

/// The first of these headers that is there.
fn get<'a>(headers: &'a Headers, names: [&'static str; 2]) -> Option<(&'static str, &'a [u8])> {
    let mut found = names.into_iter().filter_map(|name| Some((name, headers.get(name)?)));
    found.next().map(|(name, bytes)| (name, bytes.as_slice()))
}

#[cfg(test)]
mod tests;
