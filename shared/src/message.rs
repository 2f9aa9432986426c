//! The contract of `/ping`: default topics, and the JSON value of a request record.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The default topic of requests.
pub const PING_TOPIC: &str = "ping";

/// The default topic of replies.
pub const PONG_TOPIC: &str = "pong";

/// The value of a request record: a JSON object with three strings. Other fields are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MyMessage<'a> {
    /// The correlation id; the gateway's are UUIDs v4 as 36 ASCII characters.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// The first word of the reply.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// The second word of the reply.
    #[serde(borrow)]
    pub value: Cow<'a, str>,
}

// === impl MyMessage ===

impl<'a> MyMessage<'a> {
    /// Parses the value of a request record. Strings without escapes are borrowed.
    ///
    /// # Errors
    /// When `json` is not an object with the three strings.
    pub fn from_json(json: &'a [u8]) -> Result<Self, BadJson> {
        from_object(json)
    }
}

/// The value is not JSON, or not an object with the expected fields.
pub type BadJson = serde_json::Error;

/// Parses a JSON object. The contract does not allow an array; serde would accept one with the same values in order.
///
/// # Errors
/// When `json` is not an object, or its fields are not those of `T`.
pub fn from_object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, BadJson> {
    let first = json.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'[') {
        return Err(<BadJson as serde::de::Error>::custom(
            "expected an object, found an array",
        ));
    }
    serde_json::from_slice(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_serializes_to_the_contract_bytes() {
        let message = MyMessage {
            id: "1".into(),
            name: "Ping".into(),
            value: "Pong".into(),
        };
        let json = serde_json::to_string(&message).unwrap();
        assert_eq!(json, r#"{"id":"1","name":"Ping","value":"Pong"}"#);
        assert_eq!(MyMessage::from_json(json.as_bytes()).unwrap(), message);
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let json = br#" {"value":"c","x":[1,{}],"name":"b","id":"a"} "#;
        let message = MyMessage::from_json(json).unwrap();
        assert_eq!((&*message.id, &*message.name, &*message.value), ("a", "b", "c"));
    }

    #[test]
    fn value_without_three_strings_is_rejected() {
        for json in [
            "",
            "null",
            "[]",
            r#"["a","b","c"]"#,
            r#" ["a","b","c"]"#,
            r#"{"id":"a","name":"b"}"#,
            r#"{"id":"a","name":"b","value":null}"#,
            r#"{"id":1,"name":"b","value":"c"}"#,
            r#"{"id":"a","name":"b","value":"c"} x"#,
            "\u{feff}{}",
        ] {
            assert!(MyMessage::from_json(json.as_bytes()).is_err(), "{json}");
        }
    }
}
