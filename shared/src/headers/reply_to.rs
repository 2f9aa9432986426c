//! The reply address of a request, and the headers that its reply echoes.
//!
//! Any client can write requests, so every header is untrusted input. Echoed headers keep their bytes.

use super::{
    CORRELATION_ID, DEADLINE, HeaderBuf, Headers, NEST_ERR, NEST_IS_DISPOSED, OWN_REPLY_PARTITION, REPLY_PARTITION,
    REPLY_TOPIC, SMALLRYE_CORRELATION_ID, SMALLRYE_REPLY_PARTITION, SMALLRYE_REPLY_TOPIC, TRACEPARENT, TRACESTATE,
};
use crate::config::is_topic_name;

/// The most that an error shows of a malformed value, in bytes.
const MAX_SHOWN_BYTES: usize = 64;

/// The reply address of a request, and what the reply echoes. Borrows from the request's headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyTo<'a> {
    /// Topic and partition; `None` when the request names no topic.
    pub address: Option<(&'a str, i32)>,
    request: Headers<'a>,
    /// A NestJS client waits for further replies until one has [`NEST_IS_DISPOSED`].
    is_from_nest: bool,
}

/// The reply address of a request is malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the header {name} is \"{value}\": it must be {allowed}")]
pub struct MalformedHeader {
    name: &'static str,
    /// Escaped and truncated.
    value: String,
    allowed: &'static str,
}

/// A partition number and its encoding.
enum Partition {
    Decimal(i32),
    BigEndian(i32),
}

// === impl ReplyTo ===

impl<'a> ReplyTo<'a> {
    /// Parses a request's headers in any dialect.
    ///
    /// # Errors
    /// When the topic is no valid name or is internal to Kafka, or the partition is no number.
    pub fn from_headers(request: Headers<'a>) -> Result<Self, MalformedHeader> {
        let mut reply_to = Self {
            address: None,
            request,
            is_from_nest: false,
        };
        let [topic, partition, smallrye_topic, smallrye_partition, own_partition] = request.get_each([
            REPLY_TOPIC,
            REPLY_PARTITION,
            SMALLRYE_REPLY_TOPIC,
            SMALLRYE_REPLY_PARTITION,
            OWN_REPLY_PARTITION,
        ]);
        let topic = topic.map(|bytes| (REPLY_TOPIC, bytes, (REPLY_PARTITION, partition)));
        let smallrye = || {
            let partition = (SMALLRYE_REPLY_PARTITION, smallrye_partition);
            smallrye_topic.map(|bytes| (SMALLRYE_REPLY_TOPIC, bytes, partition))
        };
        let Some((topic_name, bytes, (partition_name, partition_bytes))) = topic.or_else(smallrye) else {
            return Ok(reply_to);
        };
        let topic = parse_topic(bytes).ok_or_else(|| {
            MalformedHeader::new(topic_name, bytes, "the name of a topic, and not one of Kafka's own")
        })?;
        let of_dialect = partition_bytes.map(|bytes| (partition_name, bytes));
        let own = own_partition.map(|bytes| (OWN_REPLY_PARTITION, bytes));
        let mut partition = 0;
        if let Some((name, bytes)) = of_dialect.or(own) {
            let parsed =
                parse_partition(bytes).ok_or_else(|| MalformedHeader::new(name, bytes, "the number of a partition"))?;
            (partition, reply_to.is_from_nest) = match parsed {
                Partition::Decimal(number) => (number, name == REPLY_PARTITION),
                Partition::BigEndian(number) => (number, false),
            };
        }
        reply_to.address = Some((topic, partition));
        Ok(reply_to)
    }

    /// The headers of a reply with this key: the correlation and trace headers of the request.
    ///
    /// A request with a deadline header comes from a gateway of this project, which also matches replies by key. If the key
    /// equals the correlation id, the reply omits the correlation header: a header costs more CPU than a value.
    #[must_use]
    pub fn headers(&self, key: &[u8]) -> HeaderBuf {
        let [smallrye_id, id, deadline, traceparent, tracestate] = self.request.get_each([
            SMALLRYE_CORRELATION_ID,
            CORRELATION_ID,
            DEADLINE,
            TRACEPARENT,
            TRACESTATE,
        ]);
        let is_key = |id: Option<&[u8]>| id.is_none_or(|bytes| bytes == key);
        let is_matched_by_key = deadline.is_some() && is_key(smallrye_id) && is_key(id);
        let mut headers = HeaderBuf::new();
        let mut echo = |name, bytes: Option<&[u8]>| {
            if let Some(bytes) = bytes {
                headers.push(name, bytes);
            }
        };
        if !is_matched_by_key {
            // `SMALLRYE_REPLY_TOPIC` is not echoed: SmallRye treats a record with that header as a request.
            echo(SMALLRYE_CORRELATION_ID, smallrye_id);
            echo(CORRELATION_ID, id);
        }
        // A NestJS server writes one zero byte.
        echo(NEST_IS_DISPOSED, self.is_from_nest.then_some(&[0]));
        echo(TRACEPARENT, traceparent);
        echo(TRACESTATE, tracestate);
        headers
    }

    /// The header that tells a NestJS client that the handler failed; `None` for other clients.
    #[must_use]
    pub fn failure_header<'m>(&self, message: &'m str) -> Option<(&'static str, &'m [u8])> {
        self.is_from_nest.then_some((NEST_ERR, message.as_bytes()))
    }
}

/// A topic that replies may be written to. The names of Kafka's internal topics begin with two underscores.
fn parse_topic(bytes: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(bytes).ok()?;
    (is_topic_name(name) && !name.starts_with("__")).then_some(name)
}

/// Four bytes are big-endian unless all are digits: read as big-endian, four digits are a partition above 800 million.
fn parse_partition(bytes: &[u8]) -> Option<Partition> {
    if !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit) {
        let number = std::str::from_utf8(bytes).ok()?.parse().ok()?;
        return Some(Partition::Decimal(number));
    }
    let number = i32::from_be_bytes(bytes.try_into().ok()?);
    (number >= 0).then_some(Partition::BigEndian(number))
}

// === impl MalformedHeader ===

impl MalformedHeader {
    fn new(name: &'static str, bytes: &[u8], allowed: &'static str) -> Self {
        let shown = bytes.get(..MAX_SHOWN_BYTES).unwrap_or(bytes);
        Self {
            name,
            value: shown.escape_ascii().to_string(),
            allowed,
        }
    }
}
