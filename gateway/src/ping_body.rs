//! The body of `POST /ping`, and the request record of `/ping`.
//!
//! The record is part of a fixed contract: the key is the correlation id as 36 ASCII characters, the value is
//! `{"id":"<id>","name":"<name>","value":"<value>"}`.

use std::borrow::Cow;

use kafka::Record;
use serde::Deserialize;
use shared::{
    headers::HeaderBuf,
    message::{MyMessage, from_object},
};
use uuid::Uuid;

use crate::response::GatewayError;

/// The body of `POST /ping`: a JSON object with these strings. Other fields are ignored, an `id` too.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct PingBody {
    pub(crate) name: Cow<'static, str>,
    pub(crate) value: Cow<'static, str>,
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
    pub(crate) fn into_record(self, id: Uuid, headers: HeaderBuf) -> Record {
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
    use super::*;

    #[test]
    fn get_ping_record_has_the_bytes_of_the_contract() {
        let id = Uuid::new_v4();
        let record = PingBody::default().into_record(id, HeaderBuf::new());
        let key = record.key.unwrap();
        assert_eq!(key, id.to_string().as_bytes());
        assert_eq!(key.len(), 36);
        assert_eq!(
            String::from_utf8(record.value.unwrap()).unwrap(),
            format!(r#"{{"id":"{id}","name":"Ping","value":"Pong"}}"#)
        );
    }

    #[test]
    fn id_in_the_body_is_ignored() {
        let body = PingBody::from_json(br#"{"id":"mine","value":"v","name":"n"}"#).unwrap();
        let id = Uuid::new_v4();
        let value = String::from_utf8(body.into_record(id, HeaderBuf::new()).value.unwrap()).unwrap();
        assert_eq!(value, format!(r#"{{"id":"{id}","name":"n","value":"v"}}"#));
    }
}
