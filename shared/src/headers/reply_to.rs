//! What a request says about its reply: where it goes, and what it has to carry.
//!
//! Whoever writes requests need not be a gateway of ours: nothing of this is to be trusted. What is echoed is echoed
//! byte for byte.

use super::{
    CORRELATION_ID, DEADLINE, Headers, NEST_IS_DISPOSED, OWN_REPLY_PARTITION, REPLY_PARTITION, REPLY_TOPIC,
    SMALLRYE_CORRELATION_ID, SMALLRYE_REPLY_PARTITION, SMALLRYE_REPLY_TOPIC, TRACEPARENT, TRACESTATE, get,
};
use crate::config::is_topic_name;

/// By what a reply is matched with its request. It does not say [`SMALLRYE_REPLY_TOPIC`] as well: SmallRye takes a record
/// with that for a request.
const CORRELATIONS: [&str; 2] = [CORRELATION_ID, SMALLRYE_CORRELATION_ID];

/// What else a reply carries back.
const TRACE: [&str; 2] = [TRACEPARENT, TRACESTATE];

/// Bytes of a header that are shown when it is malformed.
const SHOWN_BYTES: usize = 64;

/// Where a reply goes, and what it carries. Borrows from the request's headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyTo<'a> {
    /// Topic and partition; `None` where the request does not name a topic: then it follows the contract.
    pub place: Option<(&'a str, i32)>,
    request: &'a Headers,
    /// Its client waits for more until it is told that this was the last reply.
    from_nest: bool,
}

/// A request whose reply cannot be sent anywhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the header {name} is \"{value}\": it must be {allowed}")]
pub struct Malformed {
    name: &'static str,
    /// Escaped, and cut.
    value: String,
    allowed: &'static str,
}

/// A partition as it was written.
enum Written {
    Decimal(i32),
    BigEndian(i32),
}

// === impl ReplyTo ===

impl<'a> ReplyTo<'a> {
    /// Reads a request's headers, in any dialect.
    ///
    /// # Errors
    /// When they name a topic that cannot be, or that is Kafka's own, or a partition that is no number.
    pub fn of(request: &'a Headers) -> Result<Self, Malformed> {
        let mut reply_to = Self {
            place: None,
            request,
            from_nest: false,
        };
        let Some((name, bytes)) = get(request, [REPLY_TOPIC, SMALLRYE_REPLY_TOPIC]) else {
            return Ok(reply_to);
        };
        let partition_name = match name {
            SMALLRYE_REPLY_TOPIC => SMALLRYE_REPLY_PARTITION,
            _ => REPLY_PARTITION,
        };
        let topic = topic(bytes)
            .ok_or_else(|| Malformed::new(name, bytes, "the name of a topic, and not one of Kafka's own"))?;
        let mut number = 0;
        if let Some((name, bytes)) = get(request, [partition_name, OWN_REPLY_PARTITION]) {
            let written = partition(bytes).ok_or_else(|| Malformed::new(name, bytes, "the number of a partition"))?;
            (number, reply_to.from_nest) = match written {
                Written::Decimal(number) => (number, name == REPLY_PARTITION),
                Written::BigEndian(number) => (number, false),
            };
        }
        reply_to.place = Some((topic, number));
        Ok(reply_to)
    }

    /// The headers of a reply with this key; none for a request without any.
    ///
    /// A gateway of ours finds its caller by the key where there is no other correlation. It is not told twice: a header
    /// costs both halves more than a value does.
    #[must_use]
    pub fn headers(&self, key: &[u8]) -> Headers {
        let mut correlations = CORRELATIONS.into_iter().filter_map(|name| self.request.get(name));
        let told_by_key = self.request.contains_key(DEADLINE) && correlations.all(|bytes| bytes == key);
        let correlations = CORRELATIONS.into_iter().filter(|_| !told_by_key);
        let echoed = correlations.chain(TRACE).filter_map(|name| {
            let bytes = self.request.get(name)?;
            Some((name.to_owned(), bytes.clone()))
        });
        // One zero byte is what a NestJS server writes.
        let last = self.from_nest.then(|| (NEST_IS_DISPOSED.to_owned(), vec![0]));
        echoed.chain(last).collect()
    }
}

/// A topic that a reply may be written to. Two underscores begin those that Kafka keeps for itself.
fn topic(bytes: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(bytes).ok()?;
    (is_topic_name(name) && !name.starts_with("__")).then_some(name)
}

/// Four bytes are big-endian, unless they are digits: as a number those would be a partition above 800 million.
fn partition(bytes: &[u8]) -> Option<Written> {
    if !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit) {
        let number = std::str::from_utf8(bytes).ok()?.parse().ok()?;
        return Some(Written::Decimal(number));
    }
    let number = i32::from_be_bytes(bytes.try_into().ok()?);
    (number >= 0).then_some(Written::BigEndian(number))
}

// === impl Malformed ===

impl Malformed {
    fn new(name: &'static str, bytes: &[u8], allowed: &'static str) -> Self {
        let shown = bytes.get(..SHOWN_BYTES).unwrap_or(bytes);
        Self {
            name,
            value: shown.escape_ascii().to_string(),
            allowed,
        }
    }
}
