//! Record headers of request and reply: every name and its bytes, in every dialect, for the gateway and the worker.
//!
//! | dialect | correlation id | reply topic | reply partition |
//! |---|---|---|---|
//! | common | `kafka_correlationId`, text | `kafka_replyTopic` | `pingpong_replyPartition`, decimal, absent for 0 |
//! | Spring | `kafka_correlationId`, text | `kafka_replyTopic` | `kafka_replyPartition`, 4 bytes big-endian |
//! | NestJS | `kafka_correlationId`, text | `kafka_replyTopic` | `kafka_replyPartition`, decimal |
//! | SmallRye | `REPLY_CORRELATION_ID`, text | `REPLY_TOPIC` | `REPLY_PARTITION`, 4 bytes big-endian |
//!
//! - The correlation id is a UUID of 36 ASCII characters in every dialect. Spring's own clients write 16 raw bytes by
//!   default. A Spring listener echoes the bytes as they are, but services that read headers as strings need text.
//! - Spring reads `kafka_replyPartition` as a big-endian number and fails on fewer than four bytes; NestJS reads decimal
//!   text. No bytes suit both, so the common dialect has a header of its own.
//! - The other dialects always name the partition, 0 too: without the header their producers choose one.
//! - Headers are written in the order of their names, as the Go pair and earlier versions did. Of several with one name the last
//!   counts.

mod deadline;
pub mod http;
mod reply_to;

use std::collections::BTreeMap;

use clap::ValueEnum;
use uuid::Uuid;

use self::deadline::DEADLINE;
pub use self::{
    deadline::Deadline,
    reply_to::{MalformedHeader, ReplyTo},
};
pub use crate::record_headers::{HeaderBuf, Headers};

/// W3C trace context: the caller's trace and span.
pub const TRACEPARENT: &str = "traceparent";

/// W3C trace context: vendor data.
pub const TRACESTATE: &str = "tracestate";

/// Own name: the record key of a worker's heartbeat. It is not a UUID, so other clients take it for a reply to another one.
pub const HEARTBEAT_KEY: &[u8] = b"pingpong_worker";

/// The correlation header in the record format, at most: two lengths, a name and a UUID.
const MAX_CORRELATION_HEADER_BYTES: usize = 2 + 20 + 36;

/// Own name: the reply partition, decimal.
const OWN_REPLY_PARTITION: &str = "pingpong_replyPartition";

/// Spring's `KafkaHeaders.CORRELATION_ID`, and NestJS's.
const CORRELATION_ID: &str = "kafka_correlationId";

/// Spring's `KafkaHeaders.REPLY_TOPIC`, and NestJS's.
const REPLY_TOPIC: &str = "kafka_replyTopic";

/// Spring's `KafkaHeaders.REPLY_PARTITION` (`ByteBuffer.getInt`), and NestJS's (`parseFloat`).
const REPLY_PARTITION: &str = "kafka_replyPartition";

/// NestJS's `KafkaHeaders.NEST_ERR`: the handler failed; the value is its error as text or JSON.
const NEST_ERR: &str = "kafka_nest-err";

/// NestJS's `KafkaHeaders.NEST_IS_DISPOSED`: this is the last reply to the request.
const NEST_IS_DISPOSED: &str = "kafka_nest-is-disposed";

/// SmallRye's `KafkaRequestReply.DEFAULT_REPLY_CORRELATION_ID_HEADER`.
const SMALLRYE_CORRELATION_ID: &str = "REPLY_CORRELATION_ID";

/// SmallRye's `KafkaRequestReply.DEFAULT_REPLY_TOPIC_HEADER`.
const SMALLRYE_REPLY_TOPIC: &str = "REPLY_TOPIC";

/// SmallRye's `KafkaRequestReply.DEFAULT_REPLY_PARTITION_HEADER` (`replyPartitionToBytes`).
const SMALLRYE_REPLY_PARTITION: &str = "REPLY_PARTITION";

/// The header names and encodings of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// Spring and NestJS both understand it.
    Common,
    /// Spring Kafka.
    Spring,
    /// NestJS.
    Nest,
    /// SmallRye Reactive Messaging (Quarkus).
    #[value(name = "smallrye")]
    SmallRye,
    /// No headers: replies are matched by key, on partition 0 of the reply topic.
    None,
}

/// The headers that all requests of a gateway have in common. Only the correlation id is missing.
#[derive(Debug, Default)]
pub struct Template {
    /// The name of the correlation header, which is the first in every dialect; `None` for [`Dialect::None`].
    correlation_name: Option<&'static str>,
    /// The others, by name.
    others: BTreeMap<&'static str, Vec<u8>>,
    /// The same, encoded.
    encoded: HeaderBuf,
}

// === impl Dialect ===

impl Dialect {
    /// The template of requests whose replies go to this partition of `topic`.
    #[must_use]
    pub fn template(self, topic: &str, partition: i32) -> Template {
        let Some(correlation_name) = self.correlation_name() else {
            return Template::default();
        };
        let topic_name = match self {
            Self::SmallRye => SMALLRYE_REPLY_TOPIC,
            _ => REPLY_TOPIC,
        };
        let decimal = || partition.to_string().into_bytes();
        let big_endian = || partition.to_be_bytes().to_vec();
        let partition = match self {
            Self::None => None,
            Self::Common => (partition != 0).then(|| (OWN_REPLY_PARTITION, decimal())),
            Self::Spring => Some((REPLY_PARTITION, big_endian())),
            Self::Nest => Some((REPLY_PARTITION, decimal())),
            Self::SmallRye => Some((SMALLRYE_REPLY_PARTITION, big_endian())),
        };
        let topic = (topic_name, topic.as_bytes().to_vec());
        Template::new(correlation_name, [topic].into_iter().chain(partition).collect())
    }
}

impl Dialect {
    /// The template of requests without a reply: the correlation id alone.
    #[must_use]
    pub fn template_without_reply(self) -> Template {
        match self.correlation_name() {
            None => Template::default(),
            Some(name) => Template::new(name, BTreeMap::new()),
        }
    }

    /// The header with the correlation id; `None` for [`Dialect::None`].
    #[must_use]
    pub fn correlation_name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::SmallRye => Some(SMALLRYE_CORRELATION_ID),
            Self::Common | Self::Spring | Self::Nest => Some(CORRELATION_ID),
        }
    }
}

// === impl Template ===

impl Template {
    fn new(correlation_name: &'static str, others: BTreeMap<&'static str, Vec<u8>>) -> Self {
        let encoded = others.iter().map(|(name, value)| (*name, value.as_slice())).collect();
        Self {
            correlation_name: Some(correlation_name),
            others,
            encoded,
        }
    }

    /// Adds the deadline header, except for [`Dialect::None`].
    #[must_use]
    pub fn with_deadline(mut self, deadline: Deadline<'_>) -> Self {
        let Some(correlation_name) = self.correlation_name else {
            return self;
        };
        self.others.insert(DEADLINE, deadline.to_bytes());
        Self::new(correlation_name, self.others)
    }

    /// Appends the headers of the request with this correlation id.
    pub fn add_to(&self, headers: &mut HeaderBuf, id: Uuid) {
        let Some(correlation_name) = self.correlation_name else {
            return;
        };
        let others = self.encoded.as_headers();
        headers.reserve(others.encoded().len() + MAX_CORRELATION_HEADER_BYTES);
        let mut buffer = Uuid::encode_buffer();
        headers.push(correlation_name, id.hyphenated().encode_lower(&mut buffer).as_bytes());
        headers.extend(others);
    }
}

/// The correlation id of a reply: its correlation header as 36 ASCII characters or 16 raw bytes; without the header, its
/// key as 36 ASCII characters.
///
/// A correlation header that is no UUID belongs to another client, and then the key does not count. A service that sends a
/// request of its own may keep the key, but it sets its own correlation id.
#[must_use]
pub fn correlation_id(headers: Headers<'_>, key: Option<&[u8]>) -> Option<Uuid> {
    match correlation_header(headers) {
        Some((_, bytes)) => Uuid::from_slice(bytes).ok().or_else(|| parse_uuid(bytes)),
        None => parse_uuid(key?),
    }
}

/// Name and value of the correlation header of a reply, if it has one.
#[must_use]
pub fn correlation_header(headers: Headers<'_>) -> Option<(&'static str, &[u8])> {
    let [id, smallrye_id] = headers.get_each([CORRELATION_ID, SMALLRYE_CORRELATION_ID]);
    let id = id.map(|bytes| (CORRELATION_ID, bytes));
    id.or_else(|| smallrye_id.map(|bytes| (SMALLRYE_CORRELATION_ID, bytes)))
}

/// The error text in a reply whose handler failed (NestJS).
#[must_use]
pub fn handler_error(headers: Headers<'_>) -> Option<&[u8]> {
    headers.get(NEST_ERR)
}

/// Whether a header of a request record is a field for an HTTP server behind a worker: not one of a connection, of Kafka
/// clients, or of this project.
#[must_use]
pub fn is_http_field(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_private = ["kafka_", "pingpong_", "reply_"]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    !is_private && !name.starts_with(':') && name != "host" && !http::is_hop_by_hop(&name)
}

/// Whether a record with this key is a worker's heartbeat.
#[must_use]
pub fn is_heartbeat(key: Option<&[u8]>) -> bool {
    key == Some(HEARTBEAT_KEY)
}

/// A UUID of 36 ASCII characters. The crate also accepts other forms, which no gateway writes.
fn parse_uuid(bytes: &[u8]) -> Option<Uuid> {
    if bytes.len() != 36 {
        return None;
    }
    Uuid::try_parse_ascii(bytes).ok()
}

#[cfg(test)]
mod tests;
