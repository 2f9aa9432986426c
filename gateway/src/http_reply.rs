//! The `http` contract, from a reply record to a response. A reply can be written by any program: nothing in it may harm the
//! connection to the caller.
//!
//! - Of several `:status` or `content-type` headers the last one counts, as in Kafka's own clients.
//! - A listed header whose value is not visible ASCII is dropped, and so is each beyond 8 KiB. The response has no line break
//!   and no framing that the gateway did not write.

use hyper::{
    HeaderMap, StatusCode,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use kafka::ConsumedRecord;
use shared::headers::{Headers, http};

use crate::{http_request::MAX_HEADER_BYTES, routes::Route};

/// What a response is made of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HttpReply {
    pub(crate) status: StatusCode,
    /// Without a `content-type` there is none in the record.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Headers that were dropped.
    pub(crate) dropped: u64,
}

/// The `:status` of a reply is not three digits from 200 to 599.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadStatus;

// === impl HttpReply ===

impl HttpReply {
    /// Reads a reply to a request of `route`.
    pub(crate) fn from_record(record: &ConsumedRecord, route: &Route) -> Result<Self, BadStatus> {
        let headers = record.headers();
        let status = match headers.get(http::STATUS) {
            Some(value) => status(value).ok_or(BadStatus)?,
            None => StatusCode::OK,
        };
        let body = record.value().filter(|_| has_content(status)).unwrap_or_default();
        let mut response = Self {
            status,
            headers: HeaderMap::new(),
            body: body.to_vec(),
            dropped: 0,
        };
        response.copy_headers(headers, route);
        Ok(response)
    }

    fn copy_headers(&mut self, headers: Headers<'_>, route: &Route) {
        let mut left = MAX_HEADER_BYTES;
        for (name, value) in headers {
            let Some(listed) = listed(route, name) else { continue };
            let value = value.unwrap_or_default();
            let bytes = name.len() + value.len();
            let parsed = Some(value).filter(|value| value.iter().all(is_visible));
            match parsed.and_then(|value| HeaderValue::from_bytes(value).ok()) {
                Some(value) if bytes <= left => {
                    left -= bytes;
                    if *listed == CONTENT_TYPE {
                        self.headers.insert(CONTENT_TYPE, value);
                    } else {
                        self.headers.append(listed.clone(), value);
                    }
                }
                _ => self.dropped += 1,
            }
        }
    }
}

/// Whether a response with this status may have a body (RFC 9110, 15.3.5, 15.3.6 and 15.4.5).
pub(crate) fn has_content(status: StatusCode) -> bool {
    !matches!(
        status,
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED
    )
}

/// The listed header of this name, in any case.
fn listed<'a>(route: &'a Route, name: &[u8]) -> Option<&'a HeaderName> {
    let is_name = |listed: &&HeaderName| listed.as_str().as_bytes().eq_ignore_ascii_case(name);
    [&CONTENT_TYPE].into_iter().chain(&route.reply_headers).find(is_name)
}

fn is_visible(byte: &u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~')
}

fn status(value: &[u8]) -> Option<StatusCode> {
    let status = StatusCode::from_bytes(value).ok()?;
    (200..=599).contains(&status.as_u16()).then_some(status)
}

#[cfg(test)]
mod tests {
    use kafka::Record;
    use shared::headers::HeaderBuf;

    use super::*;
    use crate::routes::testing::route;

    const LISTED: &str = "on = 'GET /a'\nreply_headers = ['location', 'set-cookie']";

    fn reply(headers: &[(&str, &[u8])]) -> Result<HttpReply, BadStatus> {
        let headers: HeaderBuf = headers.iter().copied().collect();
        let record = Record::new(Vec::new(), b"value".to_vec());
        HttpReply::from_record(&Record { headers, ..record }.into(), &route(LISTED))
    }

    fn values<'a>(reply: &'a HttpReply, name: &str) -> Vec<&'a str> {
        let values = reply.headers.get_all(name).iter();
        values.map(|value| value.to_str().unwrap()).collect()
    }

    #[test]
    fn reply_without_headers_is_200() {
        let read = reply(&[]).unwrap();
        assert_eq!(
            (read.status, read.headers.len(), &*read.body),
            (StatusCode::OK, 0, &b"value"[..])
        );
    }

    #[test]
    fn status_content_type_and_listed_headers_are_the_replys() {
        let read = reply(&[
            (":status", b"500"),
            (":status", b"201"),
            ("Content-Type", b"text/plain"),
            ("content-type", b"text/html"),
            ("Location", b"/a/7"),
            ("set-cookie", b"a=1"),
            ("set-cookie", b"b=2"),
            ("x-internal", b"secret"),
            ("content-length", b"999"),
            ("connection", b"close"),
        ])
        .unwrap();
        assert_eq!(read.status, StatusCode::CREATED);
        assert_eq!(values(&read, "content-type"), ["text/html"]);
        assert_eq!(values(&read, "location"), ["/a/7"]);
        assert_eq!(values(&read, "set-cookie"), ["a=1", "b=2"]);
        assert_eq!((read.headers.len(), read.dropped), (4, 0));
    }

    #[test]
    fn impossible_status_is_refused() {
        for value in [
            &b""[..],
            b"99",
            b"199",
            b"600",
            b"999",
            b"2000",
            b"OK",
            b"+20",
            b"\xff\xff\xff",
            b"200 ",
        ] {
            assert_eq!(reply(&[(":status", value)]), Err(BadStatus), "{value:?}");
        }
        for status in [200, 599] {
            let read = reply(&[(":status", status.to_string().as_bytes())]).unwrap();
            assert_eq!(read.status, status);
        }
    }

    #[test]
    fn header_that_could_split_the_response_is_dropped() {
        let read = reply(&[
            ("location", b"/a\r\nset-cookie: x=1"),
            ("location", b"/a\nb"),
            ("location", "/ä".as_bytes()),
            ("location", b"/\0"),
            ("content-type", b"a/b\r\n"),
            ("location", b"/fine"),
        ])
        .unwrap();
        assert_eq!(values(&read, "location"), ["/fine"]);
        assert_eq!((read.headers.len(), read.dropped), (1, 5));
    }

    #[test]
    fn headers_are_bounded() {
        let many: Vec<_> = (0..100_000).map(|_| ("location", &b"1234"[..])).collect();
        let read = reply(&many).unwrap();
        assert_eq!(read.headers.get_all("location").iter().count(), 8192 / 12);
        assert_eq!(read.dropped, 100_000 - 8192 / 12);
    }

    #[test]
    fn statuses_without_content_have_no_body() {
        for status in ["204", "205", "304"] {
            assert_eq!(reply(&[(":status", status.as_bytes())]).unwrap().body, b"");
        }
        assert_eq!(reply(&[(":status", b"404")]).unwrap().body, b"value");
    }
}
