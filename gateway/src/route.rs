//! The routes: which requests exist, what their bodies must be, and the record that each becomes.
//!
//! `/ping` is the one route. Its request record is part of a fixed contract: the key is the correlation id as 36 ASCII
//! characters, the value is `{"id":"<id>","name":"<name>","value":"<value>"}`.

use std::borrow::Cow;

use hyper::{HeaderMap, Method, header::CONTENT_TYPE, http::request::Parts};
use kafka::Record;
use serde::Deserialize;
use shared::{
    headers::Headers,
    message::{MyMessage, from_object},
};
use uuid::Uuid;

use crate::response::GatewayError;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// `GET /ping`: the record has the default name and value; a body is ignored.
    GetPing,
    /// `POST /ping`: the body is a [`PingBody`].
    PostPing,
}

/// The body of `POST /ping`: a JSON object with these strings. Other fields are ignored, an `id` too.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct PingBody {
    pub(crate) name: Cow<'static, str>,
    pub(crate) value: Cow<'static, str>,
}

// === impl Route ===

impl Route {
    /// The route of a request's head.
    pub(crate) fn from_head(head: &Parts) -> Result<Self, GatewayError> {
        match head.method {
            _ if head.uri.path() != "/ping" => Err(GatewayError::NotFound),
            Method::GET => Ok(Self::GetPing),
            Method::POST if is_json(&head.headers) => Ok(Self::PostPing),
            Method::POST => Err(GatewayError::UnsupportedMediaType),
            _ => Err(GatewayError::MethodNotAllowed),
        }
    }
}

/// Whether the content type is JSON. A request without one is taken for JSON.
fn is_json(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_none_or(|value| {
        let media_type = value.as_bytes().split(|&byte| byte == b';').next();
        media_type.is_some_and(|media_type| media_type.trim_ascii().eq_ignore_ascii_case(b"application/json"))
    })
}

// === impl PingBody ===

/// What `GET /ping` sends.
impl Default for PingBody {
    fn default() -> Self {
        Self {
            name: Cow::Borrowed("Ping"),
            value: Cow::Borrowed("Pong"),
        }
    }
}

impl PingBody {
    pub(crate) fn from_json(json: &[u8]) -> Result<Self, GatewayError> {
        from_object(json).map_err(|_| GatewayError::BadJson)
    }

    /// The request record of the contract.
    pub(crate) fn into_record(self, id: Uuid, headers: Headers) -> Record {
        let mut buffer = Uuid::encode_buffer();
        let id: &str = id.hyphenated().encode_lower(&mut buffer);
        let message = MyMessage {
            id: id.into(),
            name: self.name,
            value: self.value,
        };
        // The exact size, unless something is escaped.
        let (name, text) = (&message.name, &message.value);
        let mut value =
            Vec::with_capacity(r#"{"id":"","name":"","value":""}"#.len() + id.len() + name.len() + text.len());
        // Strings always serialize.
        let _ = serde_json::to_writer(&mut value, &message);
        Record {
            headers,
            ..Record::new(id.into(), value)
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn route(method: &str, uri: &str) -> Result<Route, GatewayError> {
        let request = Request::builder().method(method).uri(uri).body(()).unwrap();
        Route::from_head(&request.into_parts().0)
    }

    #[test]
    fn routes_by_path_and_method() {
        assert_eq!(route("GET", "/ping"), Ok(Route::GetPing));
        assert_eq!(route("GET", "/ping?query"), Ok(Route::GetPing));
        assert_eq!(route("POST", "/ping"), Ok(Route::PostPing));
        assert_eq!(route("PUT", "/ping"), Err(GatewayError::MethodNotAllowed));
        assert_eq!(route("HEAD", "/ping"), Err(GatewayError::MethodNotAllowed));
        assert_eq!(route("GET", "/ping/"), Err(GatewayError::NotFound));
        assert_eq!(route("PUT", "/"), Err(GatewayError::NotFound));
    }

    #[test]
    fn get_ping_record_has_the_bytes_of_the_contract() {
        let id = Uuid::new_v4();
        let record = PingBody::default().into_record(id, Headers::new());
        assert_eq!(record.key, id.to_string().as_bytes());
        assert_eq!(record.key.len(), 36);
        assert_eq!(
            String::from_utf8(record.value).unwrap(),
            format!(r#"{{"id":"{id}","name":"Ping","value":"Pong"}}"#)
        );
    }

    #[test]
    fn id_in_the_body_is_ignored() {
        let body = PingBody::from_json(br#"{"id":"mine","value":"v","name":"n"}"#).unwrap();
        let id = Uuid::new_v4();
        let value = String::from_utf8(body.into_record(id, Headers::new()).value).unwrap();
        assert_eq!(value, format!(r#"{{"id":"{id}","name":"n","value":"v"}}"#));
    }

    #[test]
    fn content_type_must_be_json_or_absent() {
        let json = |value: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(CONTENT_TYPE, value.parse().unwrap());
            }
            is_json(&headers)
        };
        assert!(json(None));
        assert!(json(Some("application/json")));
        assert!(json(Some("Application/JSON ; charset=utf-8")));
        assert!(!json(Some("text/plain")));
        assert!(!json(Some("application/jsonp")));
        assert!(!json(Some("")));
    }
}
