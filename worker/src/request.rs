//! A request as a handler sees it: a view of its record. Nothing is parsed before it is asked for.

use std::{fmt, str, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use kafka::{ConsumedRecord, Record};
use serde::{Deserialize, Serialize};
use shared::headers::{
    HeaderBuf, Headers,
    http::{CONTENT_TYPE, METHOD, PARAM_PREFIX, PATH},
    is_http_field,
};
use tokio::time::Instant;

use crate::{Failure, Status};

/// The method of a record without `:method`.
const DEFAULT_METHOD: &str = "POST";

/// The path of requests that are built without one, as if their topic had this name.
const DEFAULT_PATH: &str = "/";

/// A request: a record of a request topic.
///
/// A clone shares key, value and headers.
#[derive(Clone)]
pub struct Request {
    record: ConsumedRecord,
    /// A slash and the name of the topic.
    topic_path: Arc<str>,
    partition: i32,
    deadline: Option<Instant>,
    wants_reply: bool,
}

/// Builds a request, to call a handler without Kafka. [`Request::post`] and [`Request::builder`] begin one; its body ends it.
/// Without more, it has no key, topic, deadline or parameters, a caller waits for it, and its partition and offset are 0.
#[derive(Debug)]
pub struct RequestBuilder {
    key: Option<Vec<u8>>,
    headers: HeaderBuf,
    topic_path: Arc<str>,
    deadline: Option<Instant>,
    wants_reply: bool,
}

// === impl Request ===

impl Request {
    /// A request of a record. `topic_path` is a slash and the name of its topic.
    pub(crate) fn new(
        record: ConsumedRecord,
        topic_path: &Arc<str>,
        partition: i32,
        deadline: Option<Instant>,
        wants_reply: bool,
    ) -> Self {
        Self {
            record,
            topic_path: Arc::clone(topic_path),
            partition,
            deadline,
            wants_reply,
        }
    }

    /// Begins a `POST` of `path`, to test a handler.
    ///
    /// ```
    /// use worker::Request;
    ///
    /// let request = Request::post("/orders?dry=1").json(&["a", "b"]);
    /// assert_eq!((request.method(), request.path(), request.query()), ("POST", "/orders", Some("dry=1")));
    /// ```
    #[must_use]
    pub fn post(path: &str) -> RequestBuilder {
        Self::builder("POST", path)
    }

    /// Begins a request with any method, to test a handler.
    #[must_use]
    pub fn builder(method: &str, path: &str) -> RequestBuilder {
        let mut headers = HeaderBuf::new();
        headers.push(METHOD, method.as_bytes());
        headers.push(PATH, path.as_bytes());
        RequestBuilder {
            key: None,
            headers,
            topic_path: DEFAULT_PATH.into(),
            deadline: None,
            wants_reply: true,
        }
    }

    /// The HTTP method; `POST` if the record names none.
    #[must_use]
    pub fn method(&self) -> &str {
        self.text(METHOD).unwrap_or(DEFAULT_METHOD)
    }

    /// The path as the caller sent it, without the query; `/TOPIC` if the record names none.
    #[must_use]
    pub fn path(&self) -> &str {
        let path = self.path_and_query();
        path.split_once('?').map_or(path, |(path, _)| path)
    }

    /// What follows the first `?` of the path.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.path_and_query().split_once('?').map(|(_, query)| query)
    }

    /// The path with its query.
    pub(crate) fn path_and_query(&self) -> &str {
        self.text(PATH).unwrap_or(&self.topic_path)
    }

    /// A parameter of the route's path, percent-decoded.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        let is_named = |found: &[u8]| found.strip_prefix(PARAM_PREFIX.as_bytes()) == Some(name.as_bytes());
        self.last(is_named).and_then(|value| str::from_utf8(value).ok())
    }

    /// The parameters of the route's path: names and values, percent-decoded.
    pub fn params(&self) -> impl Iterator<Item = (&str, &str)> {
        self.record_headers().iter().filter_map(|(name, value)| {
            let name = name.strip_prefix(PARAM_PREFIX.as_bytes())?;
            Some((str::from_utf8(name).ok()?, str::from_utf8(value?).ok()?))
        })
    }

    /// The value of a header, if it is UTF-8. Upper and lower case are the same; of several the last counts. From the gateway come
    /// the content type, the trace, `x-request-id`, and the `request_headers` of the route.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = self.last(|found| found.eq_ignore_ascii_case(name.as_bytes()))?;
        str::from_utf8(value).ok()
    }

    /// The key of the record. Requests with the same key are handled one at a time, in order.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.record.key()
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.record.value().unwrap_or_default()
    }

    /// The body, shared.
    #[must_use]
    pub fn body_bytes(&self) -> Bytes {
        self.record.value_bytes().unwrap_or_default()
    }

    /// The body, parsed as JSON.
    ///
    /// # Errors
    /// A [`Failure`] with status 400 that names the field and what is wrong with it.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        let mut json = serde_json::Deserializer::from_slice(self.body());
        let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            match path.as_str() {
                "." => error.into_inner().to_string(),
                path => format!("{path}: {}", error.inner()),
            }
        });
        let parsed = parsed.and_then(|parsed| match json.end() {
            Ok(()) => Ok(parsed),
            Err(error) => Err(error.to_string()),
        });
        parsed.map_err(|message| Failure::new(Status::BAD_REQUEST, message))
    }

    /// When the caller gives up, and the handler is dropped. `None` if the request names no deadline.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether a caller waits for a reply. Without one the reply is dropped, and a failure is tried again.
    #[must_use]
    pub fn wants_reply(&self) -> bool {
        self.wants_reply
    }

    /// The name of the topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.topic_path.get(1..).unwrap_or_default()
    }

    /// The number of the partition.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The offset of the record. Topic, partition and offset identify a request; a repeated one has the same.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.record.offset()
    }

    /// The request for HTTP libraries such as axum and tower. It has the headers that may be passed on to an HTTP server:
    /// valid field names, without hop-by-hop ones such as `connection`, those of Kafka clients, and `host`.
    ///
    /// # Errors
    /// A [`Failure`] with status 400 if the method is no token, or the path does not begin with a slash.
    pub fn into_http(self) -> Result<http::Request<Bytes>, Failure> {
        let bad = |message: &str| Failure::new(Status::BAD_REQUEST, message);
        let method = Method::from_bytes(self.method().as_bytes()).map_err(|_| bad("the method is not valid"))?;
        let path = self.path_and_query();
        let uri = Some(path).filter(|path| path.starts_with('/'));
        let uri = uri.and_then(|path| path.parse::<Uri>().ok());
        let uri = uri.ok_or_else(|| bad("the path is not valid"))?;
        let mut request = http::Request::new(self.body_bytes());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.http_headers();
        Ok(request)
    }

    /// The headers that may be passed on to an HTTP server.
    fn http_headers(&self) -> HeaderMap {
        let fields = self.record_headers().iter().filter_map(|(name, value)| {
            let name = str::from_utf8(name).ok()?;
            let name = is_http_field(name).then(|| HeaderName::try_from(name).ok())??;
            let value = HeaderValue::from_bytes(value.unwrap_or_default()).ok()?;
            Some((name, value))
        });
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value);
        }
        headers
    }

    pub(crate) fn set_wants_reply(&mut self, wants_reply: bool) {
        self.wants_reply = wants_reply;
    }

    pub(crate) fn record(&self) -> &ConsumedRecord {
        &self.record
    }

    pub(crate) fn record_headers(&self) -> Headers<'_> {
        self.record.headers()
    }

    fn text(&self, name: &str) -> Option<&str> {
        str::from_utf8(self.record_headers().get(name)?).ok()
    }

    fn last(&self, is_named: impl Fn(&[u8]) -> bool) -> Option<&[u8]> {
        let named = self.record_headers().iter().filter(|(name, _)| is_named(name));
        named.last().map(|(_, value)| value.unwrap_or_default())
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("topic", &self.topic())
            .field("partition", &self.partition)
            .field("offset", &self.offset())
            .field("method", &self.method())
            .field("path", &self.path_and_query())
            .field("body_bytes", &self.body().len())
            .finish_non_exhaustive()
    }
}

// === impl RequestBuilder ===

impl RequestBuilder {
    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push(name, value.as_ref());
        self
    }

    /// Adds a parameter of the path.
    #[must_use]
    pub fn param(self, name: &str, value: &str) -> Self {
        self.header(&format!("{PARAM_PREFIX}{name}"), value)
    }

    /// Sets the key of the record.
    #[must_use]
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the name of the topic.
    #[must_use]
    pub fn topic(mut self, name: &str) -> Self {
        self.topic_path = format!("/{name}").into();
        self
    }

    /// Sets the deadline.
    #[must_use]
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// As a request that no caller waits for.
    #[must_use]
    pub fn without_reply(mut self) -> Self {
        self.wants_reply = false;
        self
    }

    /// The request with this body.
    #[must_use]
    pub fn body(self, body: impl Into<Vec<u8>>) -> Request {
        let mut record = Record::new(Vec::new(), body.into());
        record.key = self.key;
        record.headers = self.headers;
        Request::new(record.into(), &self.topic_path, 0, self.deadline, self.wants_reply)
    }

    /// The request with this value as JSON.
    ///
    /// # Panics
    /// When the value cannot be JSON, such as a map whose keys are not strings.
    #[must_use]
    #[expect(clippy::expect_used, reason = "requests are built in tests, which a panic fails")]
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Request {
        let body = serde_json::to_vec(value).expect("the value can be JSON");
        self.header(CONTENT_TYPE, "application/json").body(body)
    }

    /// The request without a body.
    #[must_use]
    pub fn empty(self) -> Request {
        self.body(Vec::new())
    }
}

#[cfg(test)]
mod tests;
