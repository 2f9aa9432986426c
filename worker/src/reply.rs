//! The reply of a handler, and its record.

use bytes::Bytes;
use http::HeaderMap;
use kafka::Record;
use serde::Serialize;
use shared::headers::{
    HeaderBuf, ReplyTo,
    http::{CONTENT_TYPE, STATUS, is_hop_by_hop},
};

use crate::{Failure, Status};

/// The reply to a request.
///
/// Without a content type, callers take the body for JSON. A reply larger than the `max.message.bytes` of its topic, by default
/// about 1 MB, is refused by Kafka: its caller gets 504.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    status: Status,
    body: Vec<u8>,
    headers: HeaderBuf,
    key: Option<Vec<u8>>,
}

// === impl Reply ===

impl Reply {
    /// A reply with status 200, this body, and no content type.
    #[must_use]
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: Status::OK,
            body: body.into(),
            headers: HeaderBuf::new(),
            key: None,
        }
    }

    /// A reply with status 200 and this value as JSON.
    ///
    /// ```
    /// use worker::Reply;
    ///
    /// # fn handler() -> Result<Reply, worker::Failure> {
    /// Ok(Reply::json(&["a", "b"])?.status(201).header("location", "/orders/7"))
    /// # }
    /// # assert_eq!(handler().unwrap().body(), br#"["a","b"]"#);
    /// ```
    ///
    /// # Errors
    /// When the value cannot be JSON, such as a map whose keys are not strings.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, Failure> {
        Ok(Self::new(serde_json::to_vec(value)?))
    }

    /// A reply with status 200 and this text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(text.into()).header(CONTENT_TYPE, "text/plain; charset=utf-8")
    }

    /// A reply without a body, status 204.
    #[must_use]
    pub fn no_content() -> Self {
        Self::new(Vec::new()).status(Status::NO_CONTENT)
    }

    /// Sets the status.
    ///
    /// # Panics
    /// When it is not one from 200 to 599. In a handler, that is a reply with status 500.
    #[must_use]
    pub fn status(mut self, status: impl TryInto<Status>) -> Self {
        self.status = to_status(status);
        self
    }

    /// Adds a header. The gateway passes on the content type, and the headers that its route lists.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push(&name.to_ascii_lowercase(), value.as_ref());
        self
    }

    /// Sets the key of the reply record. Without it, the reply has the key of the request.
    #[must_use]
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The status.
    #[must_use]
    pub fn status_code(&self) -> Status {
        self.status
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The value of a header. Of several the last counts.
    #[must_use]
    pub fn header_value(&self, name: &str) -> Option<&[u8]> {
        self.headers.as_headers().get(&name.to_ascii_lowercase())
    }

    /// The record: key, value, `:status` unless it is 200, the headers of the reply, and those that `reply_to` echoes.
    pub(crate) fn into_record(self, request_key: Option<&[u8]>, reply_to: ReplyTo<'_>) -> Record {
        let key = self.key.or_else(|| request_key.map(<[u8]>::to_vec)).unwrap_or_default();
        let echoed = reply_to.headers(&key);
        let mut record = Record::new(key, self.body);
        record.headers = if self.status == Status::OK && self.headers.as_headers().is_empty() {
            echoed
        } else {
            let mut headers = HeaderBuf::new();
            if self.status != Status::OK {
                headers.push(STATUS, self.status.as_str().as_bytes());
            }
            headers.extend(self.headers.as_headers());
            headers.extend(echoed.as_headers());
            headers
        };
        record
    }

    /// Replaces the headers.
    pub(crate) fn with_headers(self, headers: HeaderBuf) -> Self {
        Self { headers, ..self }
    }

    /// Adds the header that tells a NestJS client of a failure.
    pub(crate) fn with_headers_of_failure(mut self, failure: &Failure, reply_to: ReplyTo<'_>) -> Self {
        if let Some((name, value)) = reply_to.failure_header(failure.message()) {
            self.headers.push(name, value);
        }
        self
    }
}

/// For responses of HTTP libraries such as axum, whose body must be read to its end before. Hop-by-hop fields such as
/// `connection` are dropped; a status below 200 or above 599 becomes 502.
impl<B: Into<Bytes>> From<http::Response<B>> for Reply {
    fn from(response: http::Response<B>) -> Self {
        let (head, body) = response.into_parts();
        let status = if head.status.as_u16() < 200 || head.status.as_u16() > 599 {
            Status::BAD_GATEWAY
        } else {
            head.status
        };
        let body: Bytes = body.into();
        let mut reply = Self::new(body).status(status);
        reply.headers = passed_on(&head.headers, |_| true);
        reply
    }
}

/// The fields that may be passed on and that `is_wanted` chooses.
pub(crate) fn passed_on(headers: &HeaderMap, is_wanted: impl Fn(&str) -> bool) -> HeaderBuf {
    let fields = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    fields
        .filter(|(name, _)| !is_hop_by_hop(name) && is_wanted(name))
        .collect()
}

/// A status that a reply can have.
///
/// # Panics
/// When it is none.
pub(crate) fn to_status(status: impl TryInto<Status>) -> Status {
    let status = status.try_into().ok();
    let status = status.filter(|status| (200..=599).contains(&status.as_u16()));
    match status {
        Some(status) => status,
        None => panic!("the status of a reply is one from 200 to 599"),
    }
}

#[cfg(test)]
mod tests {
    use shared::headers::Headers;

    use super::*;

    fn headers(pairs: &[(&str, &[u8])]) -> HeaderBuf {
        pairs.iter().copied().collect()
    }

    #[test]
    fn plain_reply_has_only_what_is_echoed() {
        let request = headers(&[("kafka_correlationId", b"id"), ("traceparent", b"t")]);
        let reply_to = ReplyTo::from_headers(request.as_headers()).unwrap();
        let record = Reply::new("text").into_record(Some(b"k"), reply_to);
        assert_eq!(
            (record.key.as_deref(), record.value.as_deref()),
            (Some(&b"k"[..]), Some(&b"text"[..]))
        );
        assert_eq!(record.headers, request);
        let record = Reply::new("").key("own").into_record(Some(b"k"), reply_to);
        assert_eq!(record.key.as_deref(), Some(&b"own"[..]));
    }

    #[test]
    fn status_and_headers_come_first() {
        let reply_to = ReplyTo::from_headers(Headers::default()).unwrap();
        let reply = Reply::json(&1).unwrap().status(201).header("Location", "/7");
        assert_eq!(reply.header_value("LOCATION"), Some(&b"/7"[..]));
        let record = reply.into_record(None, reply_to);
        assert_eq!(record.headers, headers(&[(":status", b"201"), ("location", b"/7")]));
    }

    #[test]
    fn nest_client_is_told_of_a_failure_in_its_own_header() {
        let request = headers(&[("kafka_replyTopic", b"pong"), ("kafka_replyPartition", b"0")]);
        let reply_to = ReplyTo::from_headers(request.as_headers()).unwrap();
        let failure = Failure::new(404, "no such order");
        let reply = failure.to_reply().with_headers_of_failure(&failure, reply_to);
        let record = reply.into_record(None, reply_to);
        let error = record.headers.as_headers().get("kafka_nest-err").map(<[u8]>::to_vec);
        assert_eq!(error.as_deref(), Some(&b"no such order"[..]));
        assert_eq!(record.headers.as_headers().get(":status"), Some(&b"404"[..]));
    }

    #[test]
    fn http_response_becomes_a_reply() {
        let response = http::Response::builder()
            .status(404)
            .header("content-type", "text/html")
            .header("connection", "close")
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2");
        let reply = Reply::from(response.body("none").unwrap());
        assert_eq!((reply.status_code(), reply.body()), (Status::NOT_FOUND, &b"none"[..]));
        let expected = [
            ("content-type", &b"text/html"[..]),
            ("set-cookie", b"a=1"),
            ("set-cookie", b"b=2"),
        ];
        assert_eq!(reply.headers, headers(&expected));
    }
}
