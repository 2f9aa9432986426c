//! The context of a request: its trace (W3C Trace Context) and its `x-request-id`.
//!
//! The gateway adds no span: it copies `traceparent` and `tracestate` unchanged into the record, or not at all. A malformed
//! header is ignored, and so is one that occurs twice where the standard allows one.

use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use shared::{
    headers::{HeaderBuf, TRACEPARENT, TRACESTATE},
    server::Response,
};

static TRACEPARENT_NAME: HeaderName = HeaderName::from_static(TRACEPARENT);
static TRACESTATE_NAME: HeaderName = HeaderName::from_static(TRACESTATE);
static REQUEST_ID_NAME: HeaderName = HeaderName::from_static("x-request-id");

/// The longest `traceparent` and `tracestate` that is copied: the minimum for `tracestate` (W3C, 3.3.1.5).
const MAX_TRACE_BYTES: usize = 512;

/// List members in a `tracestate` (W3C, 3.3.1.1).
const MAX_TRACE_MEMBERS: usize = 32;

/// The longest `x-request-id`.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// Empty for most requests.
#[derive(Debug, Default)]
pub(crate) struct RequestContext {
    request_id: Option<HeaderValue>,
    traceparent: Option<HeaderValue>,
    /// Only with a `traceparent`.
    tracestate: Option<Vec<u8>>,
}

// === impl RequestContext ===

impl RequestContext {
    /// Reads the head of a request.
    pub(crate) fn from_headers(head: &HeaderMap) -> Self {
        // Most requests have neither. One pass over the names costs less than two lookups.
        if !head
            .keys()
            .any(|name| *name == TRACEPARENT_NAME || *name == REQUEST_ID_NAME)
        {
            return Self::default();
        }
        let traceparent = single(head, &TRACEPARENT_NAME).filter(|value| is_traceparent(value.as_bytes()));
        Self {
            request_id: single(head, &REQUEST_ID_NAME)
                .filter(|value| is_request_id(value.as_bytes()))
                .and_then(copy),
            traceparent: traceparent.and_then(copy),
            tracestate: traceparent.and_then(|_| tracestate(head)),
        }
    }

    pub(crate) fn request_id(&self) -> Option<&str> {
        self.request_id.as_ref()?.to_str().ok()
    }

    pub(crate) fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_ref()?.to_str().ok()
    }

    pub(crate) fn tracestate(&self) -> Option<&str> {
        std::str::from_utf8(self.tracestate.as_deref()?).ok()
    }

    /// Copies the trace into the headers of the record.
    pub(crate) fn add_trace(&self, headers: &mut HeaderBuf) {
        if let Some(traceparent) = &self.traceparent {
            headers.push(TRACEPARENT, traceparent.as_bytes());
        }
        if let Some(tracestate) = &self.tracestate {
            headers.push(TRACESTATE, tracestate);
        }
    }

    /// Copies the request id into the response.
    pub(crate) fn add_request_id(self, response: &mut Response) {
        if let Some(id) = self.request_id {
            response.headers_mut().insert(&REQUEST_ID_NAME, id);
        }
    }
}

/// A copy of the bytes: a clone would keep the read buffer of the connection alive.
fn copy(value: &HeaderValue) -> Option<HeaderValue> {
    HeaderValue::from_bytes(value.as_bytes()).ok()
}

/// The value of a header that occurs once.
fn single<'a>(head: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = head.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

/// The value of `tracestate`, which may span several header lines (W3C, 3.3.1).
fn tracestate(head: &HeaderMap) -> Option<Vec<u8>> {
    let lines = head.get_all(&TRACESTATE_NAME).iter().map(HeaderValue::as_bytes);
    let mut list: Option<Vec<u8>> = None;
    for line in lines {
        match &mut list {
            None => list = Some(line.to_vec()),
            Some(list) => {
                list.push(b',');
                list.extend_from_slice(line);
            }
        }
    }
    list.filter(|list| is_tracestate(list))
}

fn is_request_id(bytes: &[u8]) -> bool {
    matches!(bytes.len(), 1..=MAX_REQUEST_ID_BYTES) && bytes.iter().all(u8::is_ascii_graphic)
}

/// `version-trace_id-parent_id-flags` in lower-case hexadecimal (W3C, 3.2). Later versions may append fields after a dash.
fn is_traceparent(bytes: &[u8]) -> bool {
    let Some((known, more)) = bytes.split_at_checked(55) else {
        return false;
    };
    let mut fields = known.split(|&byte| byte == b'-');
    let mut field = |digits: usize| {
        let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        fields
            .next()
            .filter(|field| field.len() == digits && field.iter().all(is_hex))
    };
    let (Some(version), Some(trace), Some(parent), Some(_flags)) = (field(2), field(32), field(16), field(2)) else {
        return false;
    };
    let is_zero = |id: &[u8]| id.iter().all(|&byte| byte == b'0');
    let is_end_valid = match version {
        b"ff" => false,
        b"00" => more.is_empty(),
        _ => more.is_empty() || more.starts_with(b"-"),
    };
    // An HTTP header value may contain tabs and bytes that are not ASCII.
    is_end_valid
        && !is_zero(trace)
        && !is_zero(parent)
        && bytes.len() <= MAX_TRACE_BYTES
        && more.iter().all(is_printable)
}

/// `key=value` members, separated by commas (W3C, 3.3.1).
fn is_tracestate(bytes: &[u8]) -> bool {
    let mut members = 0;
    bytes.len() <= MAX_TRACE_BYTES
        && bytes.split(|&byte| byte == b',').all(|member| {
            let member = member.trim_ascii();
            // Empty members are allowed.
            members += usize::from(!member.is_empty());
            member.is_empty() || is_member(member)
        })
        && (1..=MAX_TRACE_MEMBERS).contains(&members)
}

fn is_member(bytes: &[u8]) -> bool {
    let Some(equals) = bytes.iter().position(|&byte| byte == b'=') else {
        return false;
    };
    let (key, value) = bytes.split_at(equals);
    let value = value.get(1..).unwrap_or_default();
    let is_first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_rest = |byte: &u8| is_first(byte) || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@');
    key.len() <= 256
        && key.first().is_some_and(is_first)
        && key.iter().all(is_rest)
        && matches!(value.len(), 1..=256)
        && value.iter().all(|byte| is_printable(byte) && *byte != b'=')
}

fn is_printable(byte: &u8) -> bool {
    matches!(byte, b' '..=b'~')
}

#[cfg(test)]
mod tests;
