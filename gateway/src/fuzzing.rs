//! Entry points of untrusted bytes, for the targets in `dev/fuzz`. The unit test here runs their corpus.

use http_body_util::BodyExt;
use hyper::{
    HeaderMap,
    body::Body,
    header::{HeaderName, HeaderValue},
};
use shared::{
    headers::{self, HeaderBuf, Headers},
    message::{MyMessage, from_object},
};
use uuid::Uuid;

use crate::{
    ping_body::PingBody,
    request_context::RequestContext,
    response::{self, GatewayError},
};

/// The body of a request.
///
/// # Panics
/// When the worker would not read what the caller wrote.
pub fn body(json: &[u8]) {
    match PingBody::from_json(json) {
        Ok(body) => {
            let (name, value) = (body.name.clone(), body.value.clone());
            let id = Uuid::new_v4();
            let record = body.into_record(id, HeaderBuf::new());
            let read = MyMessage::from_json(record.value.as_deref().unwrap_or_default()).expect("the worker reads it");
            assert_eq!((read.id, read.name, read.value), (id.to_string().into(), name, value));
        }
        Err(error) => assert!(matches!(error, GatewayError::BadJson(_)), "{error:?}"),
    }
}

/// The value of a reply.
///
/// # Panics
/// When the response is not JSON with the decoded value.
pub fn reply(value: &[u8]) {
    #[derive(serde::Deserialize)]
    struct Message {
        message: String,
    }

    let body = response::ping_reply(value).into_body();
    let size = body.size_hint().exact();
    let mut body = std::pin::pin!(body.collect());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Ok(body)) = Future::poll(body.as_mut(), &mut context) else {
        panic!("the body is not ready");
    };
    let body = body.to_bytes();
    assert_eq!(size, u64::try_from(body.len()).ok());
    let Message { message } = from_object(&body).expect("the body is JSON");
    assert_eq!(message, String::from_utf8_lossy(value));
}

/// The key of a reply.
///
/// # Panics
/// When the correlation id is not that of the key, or the key counts beside a correlation header.
pub fn key(bytes: &[u8]) {
    let id = headers::correlation_id(Headers::default(), Some(bytes));
    let has_hyphens = bytes.len() == 36;
    let named = Uuid::try_parse_ascii(bytes).ok().filter(|_| has_hyphens);
    assert_eq!(id, named);
    if let Some(id) = id {
        assert!(id.to_string().as_bytes().eq_ignore_ascii_case(bytes));
        assert!(!headers::is_heartbeat(Some(bytes)));
    }
    for name in ["kafka_correlationId", "REPLY_CORRELATION_ID"] {
        let headers: HeaderBuf = [(name, &b"other"[..])].into_iter().collect();
        assert_eq!(headers::correlation_id(headers.as_headers(), Some(bytes)), None);
    }
}

/// The head of a request: lines of `name: value`.
///
/// # Panics
/// When headers of the record would not pass a second time, or the response has another request id.
pub fn head(lines: &[u8]) {
    let mut head = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b": ").unwrap_or(value);
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            // An error means too many headers; hyper allows far fewer.
            let _ = head.try_append(name, value);
        }
    }
    let traced = |head: &HeaderMap| {
        let mut headers = HeaderBuf::new();
        RequestContext::from_headers(head).add_trace(&mut headers);
        headers
    };
    let headers = traced(&head);
    let again = headers.as_headers().iter().map(|(name, value)| {
        let name = HeaderName::from_bytes(name).expect("it is a header's name");
        let value = value.unwrap_or_default();
        (name, HeaderValue::from_bytes(value).expect("it is a header's value"))
    });
    assert_eq!(traced(&again.collect()), headers);

    let context = RequestContext::from_headers(&head);
    let id = context.request_id().map(str::to_owned);
    let mut response = response::ping_reply(b"");
    context.add_request_id(&mut response);
    let signed = response.headers().get("x-request-id").map(HeaderValue::as_bytes);
    assert_eq!(signed, id.as_ref().map(String::as_bytes));
    assert!(id.is_none_or(|id| {
        head.get_all("x-request-id")
            .iter()
            .any(|value| value.as_bytes() == id.as_bytes())
    }));
}

#[cfg(test)]
#[path = "../../dev/fuzz/corpus.rs"]
mod corpus;

#[cfg(test)]
mod tests {
    use super::{corpus::each, *};

    #[test]
    fn corpus_passes() {
        each("body", body);
        each("reply", reply);
        each("key", key);
        each("head", head);
    }
}
