//! The head of a response, as far as this client cares.
//!
//! It reads what the gateway sends: a final response with a content length. The other ways HTTP has to end a body are
//! refused by name, so that nobody takes them for a wrong answer without knowing why.

use thiserror::Error;

/// More headers than the gateway sends by far.
const MAX_HEADERS: usize = 32;
/// A head that has not ended by now never will.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Above the largest body that can be asked for, which the answer repeats.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;
/// The one content type of every answer.
const JSON: &[u8] = b"application/json; charset=utf-8";

/// The head of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Whether the content type is exactly the one that answers have.
    pub(crate) is_json: bool,
    /// Whether the server will close the connection after this response.
    pub(crate) ends_connection: bool,
    pub(crate) head_bytes: usize,
    pub(crate) body_bytes: usize,
}

/// Why a response cannot be read.
#[derive(Debug, Error)]
pub(crate) enum BadHead {
    #[error("the response is not HTTP: {0}")]
    NotHttp(httparse::Error),
    #[error("unsupported: transfer-encoding (this client reads bodies with a content-length only)")]
    TransferEncoding,
    #[error("unsupported: a response without content-length")]
    NoLength,
    #[error("unsupported: the interim response {0}")]
    Interim(u16),
    #[error("the content-length makes no sense")]
    BadLength,
    #[error("the response is too long")]
    TooLong,
}

// === impl Head ===

impl Head {
    /// The head at the beginning of these bytes, or `None` while it is incomplete.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Self>, BadHead> {
        let mut headers = [const { std::mem::MaybeUninit::uninit() }; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut response, bytes, &mut headers)
            .map_err(BadHead::NotHttp)?;
        let httparse::Status::Complete(head_bytes) = parsed else {
            return if bytes.len() < MAX_HEAD_BYTES {
                Ok(None)
            } else {
                Err(BadHead::TooLong)
            };
        };
        let status = response.code.unwrap_or_default();
        if status < 200 {
            return Err(BadHead::Interim(status));
        }
        let mut head = Self {
            status,
            is_json: false,
            ends_connection: response.version == Some(0),
            head_bytes,
            body_bytes: 0,
        };
        let mut length = None;
        for header in response.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                let claimed = parse_length(header.value)?;
                if length.replace(claimed).is_some_and(|other| other != claimed) {
                    return Err(BadHead::BadLength);
                }
            } else if header.name.eq_ignore_ascii_case("content-type") {
                head.is_json = header.value == JSON;
            } else if header.name.eq_ignore_ascii_case("connection") {
                head.ends_connection |= header.value.eq_ignore_ascii_case(b"close");
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(BadHead::TransferEncoding);
            }
        }
        // 204 and 304 have no body and need not say so.
        let implied = matches!(status, 204 | 304).then_some(0);
        head.body_bytes = implied.or(length).ok_or(BadHead::NoLength)?;
        if head.body_bytes > MAX_BODY_BYTES {
            Err(BadHead::TooLong)
        } else {
            Ok(Some(head))
        }
    }

    /// Head and body together.
    pub(crate) fn total_bytes(&self) -> usize {
        self.head_bytes + self.body_bytes
    }
}

fn parse_length(value: &[u8]) -> Result<usize, BadHead> {
    // `usize::from_str` would take a sign.
    if !value.iter().all(u8::is_ascii_digit) {
        return Err(BadHead::BadLength);
    }
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(BadHead::BadLength)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 2\r\n\r\n{}";

    fn parse(text: &str) -> Result<Option<Head>, BadHead> {
        Head::parse(text.as_bytes())
    }

    #[test]
    fn a_head_comes_in_pieces() {
        let end = ANSWER.len() - 2;
        for cut in 0..end {
            assert!(parse(&ANSWER[..cut]).unwrap().is_none(), "cut at {cut}");
        }
        let head = parse(ANSWER).unwrap().unwrap();
        let wanted = Head {
            status: 200,
            is_json: true,
            ends_connection: false,
            head_bytes: end,
            body_bytes: 2,
        };
        assert_eq!(head, wanted);
        assert_eq!(head.total_bytes(), ANSWER.len());
    }

    #[test]
    fn another_content_type_is_told_apart() {
        let head = parse("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 0\r\n\r\n");
        assert!(!head.unwrap().unwrap().is_json);
    }

    #[test]
    fn the_end_of_a_connection_is_announced() {
        for text in [
            "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        ] {
            assert!(parse(text).unwrap().unwrap().ends_connection, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let chunked = parse("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap_err();
        assert!(matches!(chunked, BadHead::TransferEncoding));
        assert!(chunked.to_string().starts_with("unsupported"));
        assert!(matches!(parse("HTTP/1.1 200 OK\r\n\r\n"), Err(BadHead::NoLength)));
        assert!(matches!(
            parse("HTTP/1.1 100 Continue\r\n\r\n"),
            Err(BadHead::Interim(100))
        ));
        assert!(matches!(parse("SSH-2.0-OpenSSH\r\n\r\n"), Err(BadHead::NotHttp(_))));
        for length in ["+2", "-1", "two", "99999999999999999999", "2\r\ncontent-length: 3"] {
            let head = parse(&format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n"));
            assert!(matches!(head, Err(BadHead::BadLength)), "{length}");
        }
        assert!(matches!(
            parse("HTTP/1.1 200 OK\r\ncontent-length: 9999999999\r\n\r\n"),
            Err(BadHead::TooLong)
        ));
        assert!(matches!(
            parse(&format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(MAX_HEAD_BYTES))),
            Err(BadHead::TooLong)
        ));
    }

    #[test]
    fn a_response_without_a_body_need_not_say_so() {
        assert_eq!(parse("HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap().body_bytes, 0);
    }
}
