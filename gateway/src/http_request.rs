//! The `http` contract, from the head of a request to the record: everything but the body, which is the value verbatim.
//!
//! Only what a route lists is passed on: credentials do not belong in a log that is kept.

use std::{borrow::Cow, time::Duration};

use hyper::{
    HeaderMap, Method,
    header::{CONTENT_ENCODING, CONTENT_TYPE, COOKIE, HeaderName, HeaderValue},
    http::request::Parts,
};
use shared::headers::{HeaderBuf, http};

use crate::{
    response::GatewayError,
    routes::{KeyError, MAX_PATH_BYTES, Route},
};

/// The longest request target: path and query.
const MAX_TARGET_BYTES: usize = 8 * 1024;

/// The bound on the names and values of the headers that are passed on, together.
pub(crate) const MAX_HEADER_BYTES: usize = 8 * 1024;

/// Bytes for the headers of most records, beside path and parameters. With more of them they are copied once.
const HEADERS_CAPACITY: usize = 384;

static PREFER: HeaderName = HeaderName::from_static("prefer");

/// The head of a request, as its record has it.
#[derive(Debug)]
pub(crate) struct HttpRequest {
    /// Method, path, parameters and the headers that are passed on.
    pub(crate) headers: HeaderBuf,
    /// `None`: the correlation id.
    pub(crate) key: Option<Vec<u8>>,
    /// For how long the caller prefers to wait (RFC 7240, 4.3).
    pub(crate) wait: Option<Duration>,
}

// === impl HttpRequest ===

impl HttpRequest {
    /// Copies from the head of a request to a route. `method` is the one that the record has, `params` are raw values.
    pub(crate) fn from_head<'a>(
        route: &Route,
        method: &Method,
        params: impl Iterator<Item = &'a str>,
        head: &'a Parts,
    ) -> Result<Self, GatewayError> {
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        if head.uri.path().len() > MAX_PATH_BYTES || target.len() > MAX_TARGET_BYTES {
            return Err(GatewayError::UriTooLong);
        }
        if has_unlisted_encoding(route, &head.headers) {
            return Err(GatewayError::UnsupportedEncoding);
        }
        let values = params.map(|raw| percent_decoded(raw).ok_or(GatewayError::BadPath));
        let params = route.params.iter().map(String::as_str).zip(values);
        let params = params.map(|(name, value)| Ok((name, value?)));
        let params: Vec<(&str, Cow<'_, str>)> = params.collect::<Result<_, GatewayError>>()?;
        let key = route
            .key
            .as_ref()
            .map(|key| key.key(&params, &head.headers))
            .transpose();
        let key = key.map_err(|KeyError(index)| GatewayError::MissingHeader(index))?;

        let values: usize = params.iter().map(|(_, value)| value.len()).sum();
        let mut headers = HeaderBuf::with_capacity(HEADERS_CAPACITY + target.len() + values);
        headers.push(http::METHOD, method.as_str().as_bytes());
        headers.push(http::PATH, target.as_bytes());
        let mut name = String::new();
        for (param, value) in &params {
            name.clear();
            name.push_str(http::PARAM_PREFIX);
            name.push_str(param);
            headers.push(&name, value.as_bytes());
        }
        let mut left = MAX_HEADER_BYTES;
        let mut content_types = head.headers.get_all(CONTENT_TYPE).iter();
        if let Some(content_type) = content_types.next() {
            if content_types.next().is_some() {
                return Err(GatewayError::BadContentType);
            }
            push(&mut headers, &mut left, &CONTENT_TYPE, content_type.as_bytes())?;
        }
        for name in &route.request_headers {
            let mut values = head.headers.get_all(name).iter().map(HeaderValue::as_bytes);
            let Some(first) = values.next() else { continue };
            match values.next() {
                None => push(&mut headers, &mut left, name, first)?,
                Some(second) => {
                    let separator: &[u8] = if *name == COOKIE { b"; " } else { b", " };
                    let mut joined = first.to_vec();
                    for value in std::iter::once(second).chain(values) {
                        joined.extend_from_slice(separator);
                        joined.extend_from_slice(value);
                    }
                    push(&mut headers, &mut left, name, &joined)?;
                }
            }
        }
        let wait = preferred_wait(&head.headers);
        Ok(Self { headers, key, wait })
    }
}

fn push(headers: &mut HeaderBuf, left: &mut usize, name: &HeaderName, value: &[u8]) -> Result<(), GatewayError> {
    let bytes = name.as_str().len() + value.len();
    *left = left.checked_sub(bytes).ok_or(GatewayError::HeadersTooLarge)?;
    headers.push(name.as_str(), value);
    Ok(())
}

/// A service that is not told of an encoding cannot read the body.
fn has_unlisted_encoding(route: &Route, headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    let is_identity = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    values.any(|value| !is_identity(value)) && !route.request_headers.contains(&CONTENT_ENCODING)
}

/// The value of a path parameter; `None` when it is no UTF-8, or an escape is malformed.
fn percent_decoded(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.contains('%') {
        return Some(Cow::Borrowed(raw));
    }
    let mut decoded = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// `Prefer: wait=N`, in seconds. A preference that makes no sense is ignored, as one of 0.
fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    let mut preferences = headers
        .get_all(&PREFER)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    preferences.find_map(|preference| {
        let preference = preference.split(|byte| *byte == b';').next()?;
        let text = std::str::from_utf8(preference).ok()?;
        let (name, value) = text.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("wait") {
            return None;
        }
        let value = value.trim().trim_matches('"');
        let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let seconds: u32 = value.parse().ok().filter(|seconds| digits && *seconds > 0)?;
        Some(Duration::from_secs(seconds.into()))
    })
}

#[cfg(test)]
mod tests;
