//! Requests: from the caller's words to the record, and what becomes of the record.

use hyper::{HeaderMap, Request, body::Incoming, header::CONTENT_TYPE};
use serde::Deserialize;
use shared::{
    kafka::{Fate, Receipts, Record},
    message::{MyMessage, from_object},
    wire::Headers,
};
use uuid::Uuid;

use crate::{answers::Refusal, bodies::Bodies, pending::Pending};

/// What the caller says; the id is always ours.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Words {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// Tells callers whose record was not sent.
#[derive(Debug)]
pub(crate) struct SendReceipts(pub(crate) Pending);

// === impl Words ===

impl Words {
    /// What `GET /ping` says.
    pub(crate) fn ping() -> Self {
        Self {
            name: "Ping".to_owned(),
            value: "Pong".to_owned(),
        }
    }

    /// Reads them from a request.
    pub(crate) async fn read(request: &mut Request<Incoming>, bodies: &Bodies) -> Result<Self, Refusal> {
        if !is_json(request.headers()) {
            return Err(Refusal::UnsupportedMediaType);
        }
        bodies.read(request.body_mut(), Self::from_json).await
    }

    /// Reads them from a body.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self, Refusal> {
        from_object(json).map_err(|_| Refusal::BadJson)
    }

    /// The request record: key = the id, value = the contract's JSON.
    pub(crate) fn into_record(self, id: Uuid, headers: Headers) -> Record {
        let id = id.to_string();
        let key = id.clone().into_bytes();
        let message = MyMessage {
            id,
            name: self.name,
            value: self.value,
        };
        // Strings always serialize.
        let value = serde_json::to_vec(&message).unwrap_or_default();
        Record { key, value, headers }
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
