//! Parses a response and checks it against its request.
//!
//! The parser accepts what the gateway sends: a final response with a content length. It names what it rejects.
//!
//! The body must be that of its [`Form`] to the byte, such as `{"message":"<name> <value> ( <id> ) "}`. Names and values are plain ASCII that JSON does
//! not escape, so the check needs no JSON parser.

use crate::outcome::Wrong;
use thiserror::Error;
use uuid::{Uuid, Variant};

/// More headers than the gateway sends.
const MAX_HEADERS: usize = 32;

/// A head that has not ended by then is rejected.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Above the largest request body, which the response repeats.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// Length of an id as text.
const ID_BYTES: usize = uuid::fmt::Hyphenated::LENGTH;

/// What a response is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The contract of `/ping`: `{"message":"<name> <value> ( <id> ) "}`
    Ping,
    /// A route: the reply alone, `<name> <value> ( <id> ) `
    Route,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    /// The form whose content type it has.
    pub(crate) form: Option<Form>,
    /// Whether the server closes the connection after this response.
    pub(crate) is_last: bool,
    pub(crate) head_bytes: usize,
    pub(crate) body_bytes: usize,
}

#[derive(Debug, Error)]
pub(crate) enum BadResponse {
    #[error("the response is not HTTP: {0}")]
    NotHttp(httparse::Error),
    #[error("unsupported: transfer-encoding (this client reads bodies with a content-length only)")]
    TransferEncoding,
    #[error("unsupported: a response without content-length")]
    NoLength,
    #[error("unsupported: the interim response {0}")]
    Interim(u16),
    #[error("invalid content-length")]
    InvalidLength,
    #[error("the response is too long")]
    TooLong,
}

// === impl Form ===

impl Form {
    /// The content type of every such response.
    fn content_type(self) -> &'static [u8] {
        match self {
            Self::Ping => b"application/json; charset=utf-8",
            Self::Route => b"application/json",
        }
    }

    /// What is before `<name>` and after `<id>`.
    fn around(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Self::Ping => (br#"{"message":""#, br#" ) "}"#),
            Self::Route => (b"", b" ) "),
        }
    }
}

// === impl ResponseHead ===

impl ResponseHead {
    /// `None` while the head is incomplete.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Self>, BadResponse> {
        let mut headers = [const { std::mem::MaybeUninit::uninit() }; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut response, bytes, &mut headers)
            .map_err(BadResponse::NotHttp)?;
        let httparse::Status::Complete(head_bytes) = parsed else {
            return if bytes.len() < MAX_HEAD_BYTES {
                Ok(None)
            } else {
                Err(BadResponse::TooLong)
            };
        };
        let status = response.code.unwrap_or_default();
        if status < 200 {
            return Err(BadResponse::Interim(status));
        }
        let mut head = Self {
            status,
            form: None,
            is_last: response.version == Some(0),
            head_bytes,
            body_bytes: 0,
        };
        let mut length = None;
        for header in response.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                let value = parse_length(header.value)?;
                if length.replace(value).is_some_and(|other| other != value) {
                    return Err(BadResponse::InvalidLength);
                }
            } else if header.name.eq_ignore_ascii_case("content-type") {
                let mut forms = [Form::Ping, Form::Route].into_iter();
                head.form = forms.find(|form| header.value == form.content_type());
            } else if header.name.eq_ignore_ascii_case("connection") {
                head.is_last |= header.value.eq_ignore_ascii_case(b"close");
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(BadResponse::TransferEncoding);
            }
        }
        // 204 and 304 have no body, with or without a content-length.
        let implied = matches!(status, 204 | 304).then_some(0);
        head.body_bytes = implied.or(length).ok_or(BadResponse::NoLength)?;
        if head.body_bytes > MAX_BODY_BYTES {
            Err(BadResponse::TooLong)
        } else {
            Ok(Some(head))
        }
    }

    /// Head and body together.
    pub(crate) fn total_bytes(&self) -> usize {
        self.head_bytes + self.body_bytes
    }
}

fn parse_length(value: &[u8]) -> Result<usize, BadResponse> {
    // `usize::from_str` would take a sign.
    if !value.iter().all(u8::is_ascii_digit) {
        return Err(BadResponse::InvalidLength);
    }
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(BadResponse::InvalidLength)
}

/// Checks a response with status 200. `message` is `<name> <value>`; the result is the id.
pub(crate) fn check(head: &ResponseHead, form: Form, body: &[u8], message: &[u8]) -> Result<Uuid, Wrong> {
    let (before, after) = form.around();
    let found = body
        .strip_prefix(before)
        .and_then(|rest| rest.strip_suffix(after))
        .ok_or(Wrong::Malformed)?;
    let (rest, id) = found.split_last_chunk::<ID_BYTES>().ok_or(Wrong::Malformed)?;
    let found = rest.strip_suffix(b" ( ").ok_or(Wrong::Malformed)?;
    let id = parse_id(id).ok_or(Wrong::Malformed)?;
    if found != message {
        return Err(Wrong::Foreign);
    }
    if head.form != Some(form) {
        return Err(Wrong::ContentType);
    }
    Ok(id)
}

/// A version 4 UUID in lower case.
fn parse_id(text: &[u8; ID_BYTES]) -> Option<Uuid> {
    let id = Uuid::try_parse_ascii(text).ok()?;
    let is_v4 = id.get_version_num() == 4 && id.get_variant() == Variant::RFC4122;
    (is_v4 && !text.iter().any(u8::is_ascii_uppercase)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESPONSE: &str =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 2\r\n\r\n{}";

    fn parse(text: &str) -> Result<Option<ResponseHead>, BadResponse> {
        ResponseHead::parse(text.as_bytes())
    }

    #[test]
    fn incomplete_head_is_none() {
        let end = RESPONSE.len() - 2;
        for cut in 0..end {
            assert!(parse(&RESPONSE[..cut]).unwrap().is_none(), "cut at {cut}");
        }
        let head = parse(RESPONSE).unwrap().unwrap();
        let wanted = ResponseHead {
            status: 200,
            form: Some(Form::Ping),
            is_last: false,
            head_bytes: end,
            body_bytes: 2,
        };
        assert_eq!(head, wanted);
        assert_eq!(head.total_bytes(), RESPONSE.len());
    }

    #[test]
    fn form_is_that_of_the_content_type() {
        for (content_type, form) in [("application/json", Some(Form::Route)), ("text/plain", None)] {
            let head = parse(&format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: 0\r\n\r\n"
            ));
            assert_eq!(head.unwrap().unwrap().form, form);
        }
    }

    #[test]
    fn connection_close_and_http_1_0_end_the_connection() {
        for text in [
            "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        ] {
            assert!(parse(text).unwrap().unwrap().is_last, "{text}");
        }
    }

    #[test]
    fn unsupported_responses_are_named() {
        let chunked = parse("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap_err();
        assert!(matches!(chunked, BadResponse::TransferEncoding));
        assert!(chunked.to_string().starts_with("unsupported"));
        assert!(matches!(parse("HTTP/1.1 200 OK\r\n\r\n"), Err(BadResponse::NoLength)));
        assert!(matches!(
            parse("HTTP/1.1 100 Continue\r\n\r\n"),
            Err(BadResponse::Interim(100))
        ));
        assert!(matches!(parse("SSH-2.0-OpenSSH\r\n\r\n"), Err(BadResponse::NotHttp(_))));
        for length in ["+2", "-1", "two", "99999999999999999999", "2\r\ncontent-length: 3"] {
            let head = parse(&format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n"));
            assert!(matches!(head, Err(BadResponse::InvalidLength)), "{length}");
        }
        assert!(matches!(
            parse("HTTP/1.1 200 OK\r\ncontent-length: 9999999999\r\n\r\n"),
            Err(BadResponse::TooLong)
        ));
        assert!(matches!(
            parse(&format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(MAX_HEAD_BYTES))),
            Err(BadResponse::TooLong)
        ));
    }

    #[test]
    fn status_204_needs_no_content_length() {
        assert_eq!(parse("HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap().body_bytes, 0);
    }

    const ID: &str = "0b54e0a8-9c1e-4a86-8d53-6f1c3c1f8f0e";

    fn head(form: Form) -> ResponseHead {
        ResponseHead {
            status: 200,
            form: Some(form),
            is_last: false,
            head_bytes: 0,
            body_bytes: 0,
        }
    }

    fn check_body(body: &str) -> Result<Uuid, Wrong> {
        check(&head(Form::Ping), Form::Ping, body.as_bytes(), b"n-1 v-1")
    }

    #[test]
    fn right_response_returns_its_id() {
        assert_eq!(
            check_body(&format!(r#"{{"message":"n-1 v-1 ( {ID} ) "}}"#)),
            Ok(ID.parse().unwrap())
        );
        let reply = format!("n-1 v-1 ( {ID} ) ");
        assert_eq!(
            check(&head(Form::Route), Form::Route, reply.as_bytes(), b"n-1 v-1"),
            Ok(ID.parse().unwrap())
        );
    }

    #[test]
    fn response_to_another_request_is_foreign() {
        for message in ["n-2 v-2", "n-1 v-2", "v-1 n-1", "n-1 v-1 ", "n-1  v-1", "Ping Pong", ""] {
            let body = format!(r#"{{"message":"{message} ( {ID} ) "}}"#);
            assert_eq!(check_body(&body), Err(Wrong::Foreign), "{body}");
        }
    }

    #[test]
    fn body_of_another_form_is_malformed() {
        let upper = ID.to_uppercase();
        for body in [
            String::new(),
            r#"{"error":"timeout waiting for response"}"#.to_owned(),
            format!(r#"{{"message":"n-1 v-1 ( {ID} )"}}"#),
            format!(r#"{{"message":"n-1 v-1 ({ID}) "}}"#),
            format!(r#"{{ "message":"n-1 v-1 ( {ID} ) "}}"#),
            format!("{{\"message\":\"n-1 v-1 ( {ID} ) \"}}\n"),
            format!(r#"{{"message":"n-1 v-1 ( {upper} ) "}}"#),
            r#"{"message":"n-1 v-1 ( 0b54e0a8-9c1e-1a86-8d53-6f1c3c1f8f0e ) "}"#.to_owned(),
            r#"{"message":"n-1 v-1 ( 0b54e0a8-9c1e-4a86-cd53-6f1c3c1f8f0e ) "}"#.to_owned(),
            r#"{"message":"n-1 v-1 ( 0b54e0a809c1e04a8608d5306f1c3c1f8f0ee ) "}"#.to_owned(),
        ] {
            assert_eq!(check_body(&body), Err(Wrong::Malformed), "{body}");
        }
    }

    #[test]
    fn truncated_body_is_malformed() {
        let whole = format!(r#"{{"message":"n-1 v-1 ( {ID} ) "}}"#);
        for end in 0..whole.len() {
            assert_eq!(check_body(&whole[..end]), Err(Wrong::Malformed), "cut at {end}");
        }
    }

    #[test]
    fn other_content_type_is_wrong() {
        let body = format!(r#"{{"message":"n-1 v-1 ( {ID} ) "}}"#);
        assert_eq!(
            check(&head(Form::Route), Form::Ping, body.as_bytes(), b"n-1 v-1"),
            Err(Wrong::ContentType)
        );
    }
}
