//! The record headers that carry HTTP: the head of a request, and the status of its reply.
//!
//! The names of pseudo-headers begin with a colon, as in HTTP/2. No HTTP field name can, so a caller cannot forge them.

/// Request: the method.
pub const METHOD: &str = ":method";

/// Request: the path as it was sent, with the query.
pub const PATH: &str = ":path";

/// Request: the prefix of a path parameter's name; the value is percent-decoded UTF-8.
pub const PARAM_PREFIX: &str = ":param.";

/// Reply: the status, three digits from 200 to 599. Without it the status is 200.
pub const STATUS: &str = ":status";

/// Dead letter: why the request failed.
pub const ERROR: &str = ":error";

/// Dead letter: the topic that the request was in.
pub const ORIGIN_TOPIC: &str = ":origin.topic";

/// Dead letter: the partition that the request was in, decimal.
pub const ORIGIN_PARTITION: &str = ":origin.partition";

/// Dead letter: the offset of the request, decimal.
pub const ORIGIN_OFFSET: &str = ":origin.offset";

/// Request and reply: the media type of the value.
pub const CONTENT_TYPE: &str = "content-type";

/// Request: the caller's id of the request, which its response repeats.
pub const REQUEST_ID: &str = "x-request-id";

/// The fields of one connection (RFC 9110, 7.6.1, and RFC 9112), in lower case. They are never passed on.
pub const HOP_BY_HOP: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether a field belongs to one connection. `name` is in lower case.
#[must_use]
pub fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.contains(&name)
}
