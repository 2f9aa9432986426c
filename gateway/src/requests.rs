//! Requests: from the caller's words to the record, and what becomes of the record.

use std::borrow::Cow;

use hyper::{HeaderMap, Method, body::Incoming, header::CONTENT_TYPE, http::request::Parts};
use kafka::{Fate, Receipts, Record};
use serde::Deserialize;
use shared::{
    message::{MyMessage, from_object},
    wire::Headers,
};
use uuid::Uuid;

use crate::{answers::Refusal, bodies::Bodies, pending::Pending};

/// A request to `/ping`. Of its head nothing is kept.
#[derive(Debug)]
pub(crate) enum Question {
    /// What `GET` says.
    Ping,
    /// The body says it.
    Body,
}

/// What the caller says; the id is always ours.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Words {
    pub(crate) name: Cow<'static, str>,
    pub(crate) value: Cow<'static, str>,
}

/// More are not waited for: with more callers than twice as many, frames become larger by themselves.
const ENOUGH: usize = 512;

/// Tells callers whose record was not sent.
#[derive(Debug)]
pub(crate) struct SendReceipts(pub(crate) Pending);

// === impl Question ===

impl Question {
    /// Reads a request's head.
    pub(crate) fn of(head: &Parts) -> Result<Self, Refusal> {
        match head.method {
            _ if head.uri.path() != "/ping" => Err(Refusal::NotFound),
            Method::GET => Ok(Self::Ping),
            Method::POST if is_json(&head.headers) => Ok(Self::Body),
            Method::POST => Err(Refusal::UnsupportedMediaType),
            _ => Err(Refusal::MethodNotAllowed),
        }
    }

    /// What the caller says.
    pub(crate) async fn words(self, body: &mut Incoming, bodies: &Bodies) -> Result<Words, Refusal> {
        match self {
            Self::Ping => Ok(Words::ping()),
            Self::Body => bodies.read(body, Words::from_json).await,
        }
    }
}

// === impl Words ===

impl Words {
    fn ping() -> Self {
        Self {
            name: Cow::Borrowed("Ping"),
            value: Cow::Borrowed("Pong"),
        }
    }

    /// Reads them from a body.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self, Refusal> {
        from_object(json).map_err(|_| Refusal::BadJson)
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

// === impl SendReceipts ===

impl Receipts for SendReceipts {
    type Tag = Uuid;

    fn settled(&self, ids: Vec<Uuid>, fate: Fate) {
        match fate {
            Fate::Failed => {
                self.0.refuse(ids, Refusal::SendFailed);
            }
            // Its record may be in the log: the caller waits on for the reply.
            Fate::Acknowledged | Fate::Unknown => {}
        }
    }

    /// Half of all: while they are on their way there and back, the other half gathers here. One caller, or two, or three
    /// wait for nobody.
    fn enough(&self) -> usize {
        (self.0.in_flight() / 2).min(ENOUGH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_the_contracts() {
        let id = Uuid::new_v4();
        let record = Words::ping().into_record(id, Headers::new());
        assert_eq!(record.key, id.to_string().as_bytes());
        assert_eq!(record.key.len(), 36);
        assert_eq!(
            String::from_utf8(record.value).unwrap(),
            format!(r#"{{"id":"{id}","name":"Ping","value":"Pong"}}"#)
        );
    }

    #[test]
    fn the_callers_id_is_ignored() {
        let words: Words = from_object(br#"{"id":"mine","value":"v","name":"n"}"#).unwrap();
        let id = Uuid::new_v4();
        let value = String::from_utf8(words.into_record(id, Headers::new()).value).unwrap();
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
