//! The `ping` contract: requests to `/ping` and their record.
//!
//! The record is part of a fixed contract: the key is the correlation id as 36 ASCII characters, the value is
//! `{"id":"<id>","name":"<name>","value":"<value>"}`.

use std::{
    borrow::Cow,
    fmt::{self, Display},
};

use hyper::{HeaderMap, Method, header::CONTENT_TYPE, http::request::Parts};
use kafka::Record;
use serde::{Deserialize, de::IgnoredAny};
use shared::{
    headers::HeaderBuf,
    message::{MyMessage, from_object},
};
use uuid::Uuid;

use crate::response::GatewayError;

/// A request to `/ping`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PingRequest {
    /// The record has the default name and value; a body is ignored.
    Get,
    /// The body is a [`PingBody`].
    Post,
}

/// The body of `POST /ping`: a JSON object with these strings. Other fields are ignored, an `id` too.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct PingBody {
    pub(crate) name: Cow<'static, str>,
    pub(crate) value: Cow<'static, str>,
}

/// Why a body is not a [`PingBody`]. Callers see its text, so it has nothing but positions in their own body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum BadJson {
    /// `offset` is that of the first byte that is not UTF-8, from 0.
    Encoding {
        offset: usize,
    },
    /// Lines count from 1, columns in bytes from 1.
    Syntax {
        line: usize,
        column: usize,
    },
    NotAnObject,
    MissingField {
        field: &'static str,
    },
    WrongType {
        field: &'static str,
    },
    DuplicateField {
        field: &'static str,
    },
}

// === impl PingRequest ===

impl PingRequest {
    /// Reads the head of a request whose method is GET or POST.
    pub(crate) fn from_head(head: &Parts) -> Result<Self, GatewayError> {
        match head.method {
            Method::POST if is_json(&head.headers) => Ok(Self::Post),
            Method::POST => Err(GatewayError::UnsupportedMediaType),
            _ => Ok(Self::Get),
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
        from_object(json).map_err(|error| GatewayError::BadJson(BadJson::new(json, &error)))
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

// === impl BadJson ===

impl BadJson {
    /// Why serde refused `json`.
    fn new(json: &[u8], error: &serde_json::Error) -> Self {
        if let Err(error) = str::from_utf8(json) {
            return Self::Encoding {
                offset: error.valid_up_to(),
            };
        }
        if json.trim_ascii().is_empty() {
            return Self::NotAnObject;
        }
        if error.is_syntax() || error.is_eof() {
            return Self::Syntax {
                line: error.line(),
                column: error.column(),
            };
        }
        if json.trim_ascii_start().first() != Some(&b'{') {
            return Self::NotAnObject;
        }
        Self::of_fields(json)
    }

    /// Parses each field alone, into ever fewer types. A tree of the whole body could take a hundred times its memory.
    fn of_fields(json: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Name<T> {
            #[serde(rename = "name")]
            _name: T,
        }
        #[derive(Deserialize)]
        struct Value<T> {
            #[serde(rename = "value")]
            _value: T,
        }
        fn parses<'a, T: Deserialize<'a>>(json: &'a [u8]) -> bool {
            from_object::<T>(json).is_ok()
        }

        let (name, value) = ("name", "value");
        if !parses::<Name<Option<IgnoredAny>>>(json) {
            Self::DuplicateField { field: name }
        } else if !parses::<Value<Option<IgnoredAny>>>(json) {
            Self::DuplicateField { field: value }
        } else if !parses::<Name<IgnoredAny>>(json) {
            Self::MissingField { field: name }
        } else if !parses::<Value<IgnoredAny>>(json) {
            Self::MissingField { field: value }
        } else if !parses::<Name<Cow<'_, str>>>(json) {
            Self::WrongType { field: name }
        } else {
            Self::WrongType { field: value }
        }
    }
}

impl Display for BadJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoding { offset } => write!(f, "body is not UTF-8: invalid byte at offset {offset}"),
            Self::Syntax { line, column } => write!(f, "body is not JSON: syntax error at line {line} column {column}"),
            Self::NotAnObject => f.write_str("body must be a JSON object with the strings \"name\" and \"value\""),
            Self::MissingField { field } => write!(f, "field {field:?} of the body is missing"),
            Self::WrongType { field } => write!(f, "field {field:?} of the body must be a string"),
            Self::DuplicateField { field } => write!(f, "field {field:?} of the body occurs twice"),
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
    fn bad_body_names_its_cause() {
        let object = "body must be a JSON object with the strings \"name\" and \"value\"";
        for (body, text) in [
            (&b""[..], object),
            (b" \n", object),
            (b"{", "body is not JSON: syntax error at line 1 column 1"),
            (b"hello", "body is not JSON: syntax error at line 1 column 1"),
            (
                b"{\"name\":\"a\",\n \"value\" \"b\"}",
                "body is not JSON: syntax error at line 2 column 10",
            ),
            (
                br#"{"name":"a","value":"b"} x"#,
                "body is not JSON: syntax error at line 1 column 26",
            ),
            (
                b"{\"name\":\"\xff\",\"value\":\"b\"}",
                "body is not UTF-8: invalid byte at offset 9",
            ),
            (b"\xff\xfe{\0", "body is not UTF-8: invalid byte at offset 0"),
            (b"null", object),
            (b"\"name\"", object),
            (b" [\"a\",\"b\"]", object),
            (b"{}", "field \"name\" of the body is missing"),
            (br#"{"name":"a"}"#, "field \"value\" of the body is missing"),
            (br#"{"Name":"a","value":"b"}"#, "field \"name\" of the body is missing"),
            (
                br#"{"name":1,"value":"b"}"#,
                "field \"name\" of the body must be a string",
            ),
            (
                br#"{"name":"a","value":null}"#,
                "field \"value\" of the body must be a string",
            ),
            (
                br#"{"name":"a","value":["b"]}"#,
                "field \"value\" of the body must be a string",
            ),
            (
                br#"{"name":"a","name":"a","value":"b"}"#,
                "field \"name\" of the body occurs twice",
            ),
            (
                br#"{"name":"a","value":"b","value":1}"#,
                "field \"value\" of the body occurs twice",
            ),
        ] {
            let (status, error) = PingBody::from_json(body)
                .unwrap_err()
                .status(crate::routes::Contract::Ping);
            assert_eq!((status.as_u16(), &*error), (400, text), "{}", body.escape_ascii());
        }
    }

    #[test]
    fn id_in_the_body_is_ignored() {
        let body = PingBody::from_json(br#"{"id":"mine","value":"v","name":"n"}"#).unwrap();
        let id = Uuid::new_v4();
        let value = String::from_utf8(body.into_record(id, HeaderBuf::new()).value.unwrap()).unwrap();
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
