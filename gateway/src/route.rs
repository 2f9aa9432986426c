//! Requests: from the caller's body to the record, and what becomes of the record.

use std::borrow::Cow;

use hyper::{HeaderMap, Method, body::Incoming, header::CONTENT_TYPE, http::request::Parts};
use kafka::{DeliveryCallback, DeliveryResult, Record};
use serde::Deserialize;
use shared::{
    headers::Headers,
    message::{MyMessage, from_object},
};
use uuid::Uuid;

use crate::{body::BodyReader, in_flight::InFlight, response::GatewayError};

/// A request to `/ping`. Of its head nothing is kept.
#[derive(Debug)]
pub(crate) enum Route {
    /// What `GET` says.
    Ping,
    /// The body says it.
    Body,
}

/// What the caller says; the id is always ours.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct PingBody {
    pub(crate) name: Cow<'static, str>,
    pub(crate) value: Cow<'static, str>,
}

/// Tells callers whose record was not sent.
#[derive(Debug)]
pub(crate) struct GatewayDelivery(pub(crate) InFlight);

// === impl Route ===

impl Route {
    /// Reads a request's head.
    pub(crate) fn of(head: &Parts) -> Result<Self, GatewayError> {
        match head.method {
            _ if head.uri.path() != "/ping" => Err(GatewayError::NotFound),
            Method::GET => Ok(Self::Ping),
            Method::POST if is_json(&head.headers) => Ok(Self::Body),
            Method::POST => Err(GatewayError::UnsupportedMediaType),
            _ => Err(GatewayError::MethodNotAllowed),
        }
    }

    /// What the caller says.
    pub(crate) async fn body(self, body: &mut Incoming, bodies: &BodyReader) -> Result<PingBody, GatewayError> {
        match self {
            Self::Ping => Ok(PingBody::ping()),
            Self::Body => bodies.read(body, PingBody::from_json).await,
        }
    }
}

// === impl PingBody ===

impl PingBody {
    fn ping() -> Self {
        Self {
            name: Cow::Borrowed("Ping"),
            value: Cow::Borrowed("Pong"),
        }
    }

    /// Reads them from a body.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self, GatewayError> {
        from_object(json).map_err(|_| GatewayError::BadJson)
    }

    /// The request record: key = the id, value = the contract's JSON.
    pub(crate) fn into_record(self, id: Uuid, headers: Headers) -> Record {
        let mut buffer = Uuid::encode_buffer();
        let id: &str = id.hyphenated().encode_lower(&mut buffer);
        let message = MyMessage {
            id: id.into(),
            name: self.name,
            value: self.value,
        };
        // As large as most of them are in the end.
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

/// Without a content type the body is taken for what it has to be.
fn is_json(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_none_or(|value| {
        let essence = value.as_bytes().split(|&byte| byte == b';').next();
        essence.is_some_and(|it| it.trim_ascii().eq_ignore_ascii_case(b"application/json"))
    })
}

// === impl GatewayDelivery ===

impl DeliveryCallback for GatewayDelivery {
    type Token = Uuid;

    fn on_delivery(&self, ids: Vec<Uuid>, result: DeliveryResult) {
        match result {
            DeliveryResult::Failed => {
                self.0.refuse(ids, GatewayError::SendFailed);
            }
            // Its record may be in the log: the caller waits on for the reply.
            DeliveryResult::Acknowledged | DeliveryResult::Unknown => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_the_contracts() {
        let id = Uuid::new_v4();
        let record = PingBody::ping().into_record(id, Headers::new());
        assert_eq!(record.key, id.to_string().as_bytes());
        assert_eq!(record.key.len(), 36);
        assert_eq!(
            String::from_utf8(record.value).unwrap(),
            format!(r#"{{"id":"{id}","name":"Ping","value":"Pong"}}"#)
        );
    }

    #[test]
    fn the_callers_id_is_ignored() {
        let body: PingBody = from_object(br#"{"id":"mine","value":"v","name":"n"}"#).unwrap();
        let id = Uuid::new_v4();
        let value = String::from_utf8(body.into_record(id, Headers::new()).value).unwrap();
        assert_eq!(value, format!(r#"{{"id":"{id}","name":"n","value":"v"}}"#));
    }

    #[test]
    fn content_types() {
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
