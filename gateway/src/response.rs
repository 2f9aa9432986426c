//! Every response of the gateway: the only file that decides on statuses and bodies.
//!
//! The status says whether the request was executed: 4xx and 503 mean that it was not, 502 and 504 that this is unknown. The
//! contract of `/ping` has 500 for most of these.

use std::borrow::Cow;

use http_body_util::Full;
use hyper::{
    StatusCode,
    header::{
        ACCEPT_ENCODING, ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
    },
};
use serde::Serializer;
use shared::server::{RequestError, Response};
use uuid::Uuid;

use crate::{
    http_reply::{self, HttpReply},
    ping_body::BadJson,
    routes::{Contract, Route},
};

/// Part of the contract of `/ping`.
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// Of a reply that does not say.
const DEFAULT_CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/json");

/// In seconds.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// Why a request gets no reply. Callers see the text of [`GatewayError::status`]: it must not tell internals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum GatewayError {
    InvalidHost,
    InvalidTarget,
    UnsupportedTransferCoding,
    NotFound,
    MethodNotAllowed,
    UriTooLong,
    HeadersTooLarge,
    UnsupportedMediaType,
    UnsupportedEncoding,
    BadPath,
    BadContentType,
    /// A header that the key of the record needs, by its index in the template.
    MissingHeader(u8),
    BodyTooLarge,
    BodyTooSlow,
    BadBody,
    BadJson(BadJson),
    NotReady,
    NoWorker,
    Full,
    Overloaded,
    TooManyConnections,
    /// Refused during the shutdown.
    ShuttingDown,
    /// Still waiting at the end of the drain.
    DrainEnded,
    /// The record was never written to Kafka.
    SendFailed,
    /// Kafka refused the record for good.
    RecordRefused,
    BadReply,
    ServiceFailed,
    TimedOut,
}

/// 200 with the value of the reply as a JSON string: the contract of `/ping`. Bytes that are not UTF-8 become U+FFFD.
pub(crate) fn ping_reply(value: &[u8]) -> Response {
    json(StatusCode::OK, "message", &String::from_utf8_lossy(value))
}

/// The reply of a service, verbatim.
pub(crate) fn http_reply(reply: HttpReply) -> Response {
    let has_content = http_reply::has_content(reply.status);
    let mut response = Response::new(Full::new(reply.body.into()));
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    if has_content && !response.headers().contains_key(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, DEFAULT_CONTENT_TYPE);
        // The body may be anything: a browser must not guess.
        response
            .headers_mut()
            .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    response
}

/// 202 with the id of a record that all in-sync replicas have.
pub(crate) fn stored(id: Uuid) -> Response {
    let mut buffer = Uuid::encode_buffer();
    json(StatusCode::ACCEPTED, "id", id.hyphenated().encode_lower(&mut buffer))
}

/// The answer to `OPTIONS`.
pub(crate) fn options(allow: HeaderValue) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, allow);
    response
}

// === impl GatewayError ===

impl GatewayError {
    /// Every variant, for the metrics. They do not distinguish causes of [`GatewayError::BadJson`].
    pub(crate) const ALL: [Self; 28] = [
        Self::InvalidHost,
        Self::InvalidTarget,
        Self::UnsupportedTransferCoding,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::UriTooLong,
        Self::HeadersTooLarge,
        Self::UnsupportedMediaType,
        Self::UnsupportedEncoding,
        Self::BadPath,
        Self::BadContentType,
        Self::MissingHeader(0),
        Self::BodyTooLarge,
        Self::BodyTooSlow,
        Self::BadBody,
        Self::BadJson(BadJson::NotAnObject),
        Self::NotReady,
        Self::NoWorker,
        Self::Full,
        Self::Overloaded,
        Self::TooManyConnections,
        Self::ShuttingDown,
        Self::DrainEnded,
        Self::SendFailed,
        Self::RecordRefused,
        Self::BadReply,
        Self::ServiceFailed,
        Self::TimedOut,
    ];

    /// The status, and the value of `error` in the body.
    pub(crate) fn status(self, contract: Contract) -> (StatusCode, Cow<'static, str>) {
        use StatusCode as S;
        let (status, text) = match (self, contract) {
            (Self::InvalidHost, _) => (S::BAD_REQUEST, "host must be present once, and valid"),
            (Self::InvalidTarget, _) => (S::BAD_REQUEST, "the request target must be a path"),
            (Self::UnsupportedTransferCoding, _) => (S::NOT_IMPLEMENTED, "transfer-encoding must be chunked"),
            (Self::SendFailed | Self::RecordRefused, Contract::Ping) => {
                (S::INTERNAL_SERVER_ERROR, "failed to send message to Kafka")
            }
            (Self::DrainEnded, Contract::Ping) => (S::SERVICE_UNAVAILABLE, "shutting down"),
            (Self::TimedOut, Contract::Ping) => (S::INTERNAL_SERVER_ERROR, "timeout waiting for response"),
            (Self::NotFound, _) => (S::NOT_FOUND, "not found"),
            (Self::MethodNotAllowed, _) => (S::METHOD_NOT_ALLOWED, "method not allowed"),
            (Self::UriTooLong, _) => (S::URI_TOO_LONG, "path or query too long"),
            (Self::HeadersTooLarge, _) => (S::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers too large"),
            (Self::UnsupportedMediaType, _) => (S::UNSUPPORTED_MEDIA_TYPE, "content-type must be application/json"),
            (Self::UnsupportedEncoding, _) => (S::UNSUPPORTED_MEDIA_TYPE, "content-encoding must be identity"),
            (Self::BadPath, _) => (S::BAD_REQUEST, "path must be percent-encoded UTF-8"),
            (Self::BadContentType, _) => (S::BAD_REQUEST, "content-type must occur once"),
            (Self::MissingHeader(_), _) => (S::BAD_REQUEST, "a header is missing"),
            (Self::BodyTooLarge, _) => (S::PAYLOAD_TOO_LARGE, "body too large"),
            (Self::BodyTooSlow, _) => (S::REQUEST_TIMEOUT, "body not received in time"),
            (Self::BadBody, _) => (S::BAD_REQUEST, "body not received"),
            (Self::BadJson(cause), _) => return (S::BAD_REQUEST, cause.to_string().into()),
            (Self::NotReady, _) => (S::SERVICE_UNAVAILABLE, "not ready"),
            (Self::NoWorker, _) => (S::SERVICE_UNAVAILABLE, "no worker available"),
            (Self::Overloaded, _) => (S::SERVICE_UNAVAILABLE, "overloaded"),
            (Self::Full, _) => (S::SERVICE_UNAVAILABLE, "too many requests in flight"),
            (Self::TooManyConnections, _) => (S::SERVICE_UNAVAILABLE, "too many connections"),
            (Self::ShuttingDown, _) => (S::SERVICE_UNAVAILABLE, "shutting down"),
            (Self::SendFailed, Contract::Http) => (S::SERVICE_UNAVAILABLE, "not sent to Kafka"),
            (Self::RecordRefused, Contract::Http) => (S::BAD_GATEWAY, "refused by Kafka"),
            (Self::BadReply, _) => (S::BAD_GATEWAY, "the reply has an invalid status"),
            (Self::DrainEnded, Contract::Http) => (S::GATEWAY_TIMEOUT, "shutting down"),
            (Self::ServiceFailed, _) => (S::INTERNAL_SERVER_ERROR, "the service failed"),
            (Self::TimedOut, Contract::Http) => (S::GATEWAY_TIMEOUT, "timeout"),
        };
        (status, text.into())
    }

    /// The response to a request of `route`; without one, to a request that has none.
    pub(crate) fn response(self, route: Option<&Route>) -> Response {
        let (status, text) = self.describe(route);
        let mut response = json(status, "error", &text);
        let mut add = |name: HeaderName, value| response.headers_mut().insert(name, value);
        if status == StatusCode::SERVICE_UNAVAILABLE && self != Self::DrainEnded {
            add(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        match self {
            // The rest of a body is left unread.
            Self::ShuttingDown | Self::DrainEnded | Self::BodyTooLarge | Self::BodyTooSlow | Self::BadBody => {
                add(CONNECTION, HeaderValue::from_static("close"));
            }
            Self::UnsupportedEncoding => {
                add(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            }
            _ => {}
        }
        response
    }

    /// Status and text of the response to a request of `route`.
    pub(crate) fn describe(self, route: Option<&Route>) -> (StatusCode, Cow<'static, str>) {
        let (status, text) = self.status(route.map_or(Contract::Http, |route| route.contract));
        if let Self::MissingHeader(index) = self
            && let Some(key) = route.and_then(|route| route.key.as_ref())
            && let Some(name) = key.header(index)
        {
            return (status, format!("header {name} is missing").into());
        }
        (status, text)
    }
}

impl From<RequestError> for GatewayError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::TooManyConnections => Self::TooManyConnections,
            RequestError::InvalidHost => Self::InvalidHost,
            RequestError::InvalidTarget => Self::InvalidTarget,
            RequestError::UnsupportedTransferCoding => Self::UnsupportedTransferCoding,
        }
    }
}

/// `{"<name>":"<text>"}`
fn json(status: StatusCode, name: &str, text: &str) -> Response {
    // The exact size, unless something is escaped: a `Vec` with spare capacity is allocated again when it becomes `Bytes`.
    let mut body = Vec::with_capacity(r#"{"":""}"#.len() + name.len() + text.len());
    // Strings always serialize.
    let _ = serde_json::Serializer::new(&mut body).collect_map([(name, text)]);
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use hyper::HeaderMap;

    use super::*;

    fn body(response: Response) -> Vec<u8> {
        let mut body = std::pin::pin!(response.into_body().collect());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match Future::poll(body.as_mut(), &mut context) {
            std::task::Poll::Ready(Ok(body)) => body.to_bytes().to_vec(),
            other => panic!("the body is not ready: {other:?}"),
        }
    }

    #[test]
    fn reply_has_the_bytes_of_the_contract() {
        let response = ping_reply(b"Ping Pong ( 1 ) ");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json; charset=utf-8");
        assert_eq!(body(response), br#"{"message":"Ping Pong ( 1 ) "}"#);
    }

    #[test]
    fn reply_is_escaped_and_decoded_lossily() {
        assert_eq!(body(ping_reply(b"a\"\\\n")), br#"{"message":"a\"\\\n"}"#);
        assert_eq!(body(ping_reply(b"\xff!")), "{\"message\":\"\u{fffd}!\"}".as_bytes());
    }

    #[test]
    fn status_says_whether_the_request_was_executed() {
        let ping = crate::routes::testing::route("on = 'GET /ping'\ncontract = 'ping'");
        let http = crate::routes::testing::route("on = 'GET /a'\nkey = '{header:x-id}'");
        for (error, ping_status, http_status, ping_text, http_text) in [
            (
                GatewayError::TimedOut,
                500,
                504,
                "timeout waiting for response",
                "timeout",
            ),
            (
                GatewayError::SendFailed,
                500,
                503,
                "failed to send message to Kafka",
                "not sent to Kafka",
            ),
            (
                GatewayError::RecordRefused,
                500,
                502,
                "failed to send message to Kafka",
                "refused by Kafka",
            ),
            (GatewayError::DrainEnded, 503, 504, "shutting down", "shutting down"),
            (
                GatewayError::ServiceFailed,
                500,
                500,
                "the service failed",
                "the service failed",
            ),
            (GatewayError::NotReady, 503, 503, "not ready", "not ready"),
            (
                GatewayError::NoWorker,
                503,
                503,
                "no worker available",
                "no worker available",
            ),
            (GatewayError::Overloaded, 503, 503, "overloaded", "overloaded"),
            (GatewayError::ShuttingDown, 503, 503, "shutting down", "shutting down"),
            (
                GatewayError::MissingHeader(0),
                400,
                400,
                "a header is missing",
                "header x-id is missing",
            ),
            (
                GatewayError::BadJson(BadJson::WrongType { field: "name" }),
                400,
                400,
                r#"field \"name\" of the body must be a string"#,
                r#"field \"name\" of the body must be a string"#,
            ),
        ] {
            for (route, status, text) in [(&ping, ping_status, ping_text), (&http, http_status, http_text)] {
                let response = error.response(Some(route));
                assert_eq!(response.status(), status, "{error:?}");
                let may_be_repeated = status == 503 && error != GatewayError::DrainEnded;
                assert_eq!(
                    response.headers().contains_key(RETRY_AFTER),
                    may_be_repeated,
                    "{error:?}"
                );
                assert_eq!(body(response), format!(r#"{{"error":"{text}"}}"#).as_bytes());
            }
        }
        let response = GatewayError::UnsupportedEncoding.response(Some(&http));
        assert_eq!(
            (response.status(), &response.headers()[ACCEPT_ENCODING]),
            (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                &HeaderValue::from_static("identity")
            )
        );
    }

    #[test]
    fn http_reply_is_verbatim_with_a_default_content_type() {
        let reply = |status, headers| HttpReply {
            status,
            headers,
            body: b"<b>".to_vec(),
            dropped: 0,
        };
        let response = http_reply(reply(StatusCode::CREATED, HeaderMap::new()));
        assert_eq!(response.status(), 201);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(response.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(body(response), b"<b>");
        let html = [(CONTENT_TYPE, HeaderValue::from_static("text/html"))]
            .into_iter()
            .collect();
        let response = http_reply(reply(StatusCode::OK, html));
        assert_eq!(
            (response.headers().len(), &response.headers()[CONTENT_TYPE]),
            (1, &HeaderValue::from_static("text/html"))
        );
        assert!(
            http_reply(reply(StatusCode::NO_CONTENT, HeaderMap::new()))
                .headers()
                .is_empty()
        );
    }
}
