//! Every response of the gateway: the only file that decides on statuses and bodies.

use std::borrow::Cow;

use http_body_util::Full;
use hyper::{
    StatusCode,
    header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER},
};
use serde::Serializer;
use shared::server::{Refusal, Response};

use crate::ping_body::BadJson;

/// Part of the contract of `/ping`.
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

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
    UnsupportedMediaType,
    BodyTooLarge,
    BodyTooSlow,
    BadBody,
    BadJson(BadJson),
    NotReady,
    NoWorker,
    Full,
    Overloaded,
    TooManyConnections,
    ShuttingDown,
    SendFailed,
    ServiceFailed,
    TimedOut,
}

/// 200 with the value of the reply as a JSON string. Bytes that are not UTF-8 become U+FFFD.
pub(crate) fn reply(value: &[u8]) -> Response {
    json(StatusCode::OK, "message", &String::from_utf8_lossy(value))
}

// === impl GatewayError ===

impl GatewayError {
    /// Every variant, for the metrics. They do not distinguish causes of [`GatewayError::BadJson`].
    pub(crate) const ALL: [Self; 19] = [
        Self::InvalidHost,
        Self::InvalidTarget,
        Self::UnsupportedTransferCoding,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::UnsupportedMediaType,
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
        Self::SendFailed,
        Self::ServiceFailed,
        Self::TimedOut,
    ];

    /// The status, and the value of `error` in the body.
    pub(crate) fn status(self) -> (StatusCode, Cow<'static, str>) {
        use StatusCode as S;
        let (status, text) = match self {
            Self::InvalidHost => (S::BAD_REQUEST, "host must be present once, and valid"),
            Self::InvalidTarget => (S::BAD_REQUEST, "the request target must be a path"),
            Self::UnsupportedTransferCoding => (S::NOT_IMPLEMENTED, "transfer-encoding must be chunked"),
            Self::NotFound => (S::NOT_FOUND, "not found"),
            Self::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, "method not allowed"),
            Self::UnsupportedMediaType => (S::UNSUPPORTED_MEDIA_TYPE, "content-type must be application/json"),
            Self::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "body too large"),
            Self::BodyTooSlow => (S::REQUEST_TIMEOUT, "body not received in time"),
            Self::BadBody => (S::BAD_REQUEST, "body not received"),
            Self::BadJson(cause) => return (S::BAD_REQUEST, cause.to_string().into()),
            Self::NotReady => (S::SERVICE_UNAVAILABLE, "not ready"),
            Self::NoWorker => (S::SERVICE_UNAVAILABLE, "no worker available"),
            Self::Overloaded => (S::SERVICE_UNAVAILABLE, "overloaded"),
            Self::Full => (S::SERVICE_UNAVAILABLE, "too many requests in flight"),
            Self::TooManyConnections => (S::SERVICE_UNAVAILABLE, "too many connections"),
            Self::ShuttingDown => (S::SERVICE_UNAVAILABLE, "shutting down"),
            Self::SendFailed => (S::INTERNAL_SERVER_ERROR, "failed to send message to Kafka"),
            Self::ServiceFailed => (S::INTERNAL_SERVER_ERROR, "the service failed"),
            Self::TimedOut => (S::INTERNAL_SERVER_ERROR, "timeout waiting for response"),
        };
        (status, text.into())
    }

    pub(crate) fn response(self) -> Response {
        let (status, error) = self.status();
        let mut response = json(status, "error", &error);
        let mut add = |name: HeaderName, value| response.headers_mut().insert(name, value);
        match self {
            Self::MethodNotAllowed => {
                add(ALLOW, HeaderValue::from_static("GET, POST"));
            }
            Self::ShuttingDown => {
                add(RETRY_AFTER, RETRY_AFTER_SECONDS);
                add(CONNECTION, HeaderValue::from_static("close"));
            }
            // The rest of the body is left unread.
            Self::BodyTooLarge | Self::BodyTooSlow | Self::BadBody => {
                add(CONNECTION, HeaderValue::from_static("close"));
            }
            _ if status == StatusCode::SERVICE_UNAVAILABLE => {
                add(RETRY_AFTER, RETRY_AFTER_SECONDS);
            }
            _ => {}
        }
        response
    }
}

impl From<Refusal> for GatewayError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TooManyConnections => Self::TooManyConnections,
            Refusal::InvalidHost => Self::InvalidHost,
            Refusal::InvalidTarget => Self::InvalidTarget,
            Refusal::UnsupportedTransferCoding => Self::UnsupportedTransferCoding,
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
        let response = reply(b"Ping Pong ( 1 ) ");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json; charset=utf-8");
        assert_eq!(body(response), br#"{"message":"Ping Pong ( 1 ) "}"#);
    }

    #[test]
    fn reply_is_escaped_and_decoded_lossily() {
        assert_eq!(body(reply(b"a\"\\\n")), br#"{"message":"a\"\\\n"}"#);
        assert_eq!(body(reply(b"\xff!")), "{\"message\":\"\u{fffd}!\"}".as_bytes());
    }

    #[test]
    fn errors_have_their_status_and_body() {
        for (error, status, text) in [
            (
                GatewayError::TimedOut,
                500,
                r#"{"error":"timeout waiting for response"}"#,
            ),
            (
                GatewayError::SendFailed,
                500,
                r#"{"error":"failed to send message to Kafka"}"#,
            ),
            (GatewayError::ServiceFailed, 500, r#"{"error":"the service failed"}"#),
            (GatewayError::NotReady, 503, r#"{"error":"not ready"}"#),
            (GatewayError::NoWorker, 503, r#"{"error":"no worker available"}"#),
            (GatewayError::Overloaded, 503, r#"{"error":"overloaded"}"#),
            (GatewayError::ShuttingDown, 503, r#"{"error":"shutting down"}"#),
            (
                GatewayError::BadJson(BadJson::WrongType { field: "name" }),
                400,
                r#"{"error":"field \"name\" of the body must be a string"}"#,
            ),
        ] {
            let response = error.response();
            assert_eq!(response.status(), status);
            assert_eq!(response.headers().contains_key(RETRY_AFTER), status == 503);
            assert_eq!(body(response), text.as_bytes());
        }
        assert_eq!(GatewayError::MethodNotAllowed.response().headers()[ALLOW], "GET, POST");
    }
}
