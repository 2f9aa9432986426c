//! What a request brings along from elsewhere: its caller's trace (W3C Trace RequestContext) and its name (`x-request-id`).
//!
//! The gateway is no part of the trace: it hands both headers on as they came, or not at all. What is malformed is
//! ignored, and so is what is there twice where it may be once: nobody could say which one is meant.

use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use shared::{
    headers::{Headers, TRACEPARENT, TRACESTATE},
    server::Response,
};

static TRACEPARENT_NAME: HeaderName = HeaderName::from_static(TRACEPARENT);
static TRACESTATE_NAME: HeaderName = HeaderName::from_static(TRACESTATE);
static REQUEST_ID_NAME: HeaderName = HeaderName::from_static("x-request-id");

/// The longest header of a trace that is handed on: as much of `tracestate` as W3C asks everybody to hand on (3.3.1.5).
const MAX_TRACE_BYTES: usize = 512;

/// List members that a `tracestate` may have (W3C, 3.3.1.1).
const MAX_TRACE_MEMBERS: usize = 32;

/// The longest request id.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// What a request brings along; empty for most.
#[derive(Debug, Default)]
pub(crate) struct RequestContext {
    request_id: Option<HeaderValue>,
    parent: Option<HeaderValue>,
    /// Only with a parent.
    state: Option<Vec<u8>>,
}

// === impl RequestContext ===

impl RequestContext {
    /// Reads it from a request's head.
    pub(crate) fn from_headers(head: &HeaderMap) -> Self {
        // Most requests have neither, and to look at the names costs less than to look one up.
        if !head.keys().any(|it| *it == TRACEPARENT_NAME || *it == REQUEST_ID_NAME) {
            return Self::default();
        }
        let parent = single(head, &TRACEPARENT_NAME).filter(|it| is_parent(it.as_bytes()));
        Self {
            request_id: single(head, &REQUEST_ID_NAME)
                .filter(|it| is_request_id(it.as_bytes()))
                .and_then(copy),
            parent: parent.and_then(copy),
            state: parent.and_then(|_| state(head)),
        }
    }

    /// The request's name, if it has one.
    pub(crate) fn request_id(&self) -> Option<&str> {
        self.request_id.as_ref()?.to_str().ok()
    }

    /// Where the caller is in its trace.
    pub(crate) fn traceparent(&self) -> Option<&str> {
        self.parent.as_ref()?.to_str().ok()
    }

    /// What the vendors add to it.
    pub(crate) fn tracestate(&self) -> Option<&str> {
        std::str::from_utf8(self.state.as_deref()?).ok()
    }

    /// Hands the trace on to the record.
    pub(crate) fn add_trace(&self, headers: &mut Headers) {
        if let Some(parent) = &self.parent {
            headers.insert(TRACEPARENT.to_owned(), parent.as_bytes().to_vec());
        }
        if let Some(state) = &self.state {
            headers.insert(TRACESTATE.to_owned(), state.clone());
        }
    }

    /// Gives the request's name back in its answer.
    pub(crate) fn add_request_id(self, answer: &mut Response) {
        if let Some(id) = self.request_id {
            answer.headers_mut().insert(&REQUEST_ID_NAME, id);
        }
    }
}

/// A value of its own: a clone would be a part of the connection's read buffer, and keep it.
fn copy(value: &HeaderValue) -> Option<HeaderValue> {
    HeaderValue::from_bytes(value.as_bytes()).ok()
}

/// The value of a header that is there once.
fn single<'a>(head: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = head.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

/// The list in `tracestate`, which may come in several lines (W3C, 3.3.1).
fn state(head: &HeaderMap) -> Option<Vec<u8>> {
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
    list.filter(|it| is_state(it))
}

fn is_request_id(bytes: &[u8]) -> bool {
    matches!(bytes.len(), 1..=MAX_REQUEST_ID_BYTES) && bytes.iter().all(u8::is_ascii_graphic)
}

/// `version-trace_id-parent_id-flags` in lower-case hexadecimal (W3C, 3.2); what a later version adds begins with a
/// dash.
fn is_parent(bytes: &[u8]) -> bool {
    let Some((known, more)) = bytes.split_at_checked(55) else {
        return false;
    };
    let mut fields = known.split(|&it| it == b'-');
    let mut field = |digits: usize| {
        let hex = |it: &u8| matches!(it, b'0'..=b'9' | b'a'..=b'f');
        fields.next().filter(|it| it.len() == digits && it.iter().all(hex))
    };
    let (Some(version), Some(trace), Some(parent), Some(_flags)) = (field(2), field(32), field(16), field(2)) else {
        return false;
    };
    let is_zero = |id: &[u8]| id.iter().all(|&it| it == b'0');
    let ends_well = match version {
        b"ff" => false,
        b"00" => more.is_empty(),
        _ => more.is_empty() || more.starts_with(b"-"),
    };
    // A header's value has no control characters but the tab, and may have bytes that are no text.
    ends_well && !is_zero(trace) && !is_zero(parent) && bytes.len() <= MAX_TRACE_BYTES && more.iter().all(is_printable)
}

/// `key=value` members, separated by commas (W3C, 3.3.1).
fn is_state(bytes: &[u8]) -> bool {
    let mut members = 0;
    bytes.len() <= MAX_TRACE_BYTES
        && bytes.split(|&it| it == b',').all(|member| {
            let member = member.trim_ascii();
            // An empty one is allowed.
            members += usize::from(!member.is_empty());
            member.is_empty() || is_member(member)
        })
        && (1..=MAX_TRACE_MEMBERS).contains(&members)
}

fn is_member(bytes: &[u8]) -> bool {
    let Some(equals) = bytes.iter().position(|&it| it == b'=') else {
        return false;
    };
    let (key, value) = bytes.split_at(equals);
    let value = value.get(1..).unwrap_or_default();
    let begins = |it: &u8| it.is_ascii_lowercase() || it.is_ascii_digit();
    let goes_on = |it: &u8| begins(it) || matches!(it, b'_' | b'-' | b'*' | b'/' | b'@');
    key.len() <= 256
        && key.first().is_some_and(begins)
        && key.iter().all(goes_on)
        && matches!(value.len(), 1..=256)
        && value.iter().all(|it| is_printable(it) && *it != b'=')
}

fn is_printable(byte: &u8) -> bool {
    matches!(byte, b' '..=b'~')
}

#[cfg(test)]
mod tests;
