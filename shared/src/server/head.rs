//! What RFC 9110 and RFC 9112 require of a request head, beyond what hyper checks.

use hyper::{
    HeaderMap, Method, Uri, Version,
    header::{HOST, TRANSFER_ENCODING},
    http::{request::Parts, uri::Scheme},
};

/// Why the server refuses a request. The handler makes the response, and the server closes the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestError {
    /// The connection is beyond the bound.
    TooManyConnections,
    /// `Host` is missing in HTTP/1.1, repeated or invalid (RFC 9112, 3.2).
    InvalidHost,
    /// The target is neither a path nor a URL of http or https (RFC 9112, 3.2).
    InvalidTarget,
    /// The body has another transfer coding than `chunked` (RFC 9112, 6.1).
    UnsupportedTransferCoding,
}

/// Checks a head. A URL as target needs a `Host` as well, and its host wins; here neither is used.
pub(super) fn check(head: &Parts) -> Result<(), RequestError> {
    if !has_valid_host(&head.headers, head.version) {
        return Err(RequestError::InvalidHost);
    }
    if !is_valid_target(&head.method, &head.uri) {
        return Err(RequestError::InvalidTarget);
    }
    if !has_supported_transfer_coding(&head.headers) {
        return Err(RequestError::UnsupportedTransferCoding);
    }
    Ok(())
}

/// HTTP/1.0 has no `Host`, but its clients may send one.
fn has_valid_host(headers: &HeaderMap, version: Version) -> bool {
    let mut values = headers.get_all(HOST).iter();
    match (values.next(), values.next()) {
        (None, _) => version == Version::HTTP_10,
        (Some(host), None) => host.to_str().is_ok_and(is_host),
        (Some(_), Some(_)) => false,
    }
}

/// `uri-host [ ":" port ]` of RFC 3986. Both may be empty.
fn is_host(text: &str) -> bool {
    let (is_valid, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => (address.parse::<std::net::Ipv6Addr>().is_ok(), port),
            None => return false,
        },
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            (is_registered_name(name), port)
        }
    };
    is_valid
        && port
            .strip_prefix(':')
            .unwrap_or(port)
            .bytes()
            .all(|byte| byte.is_ascii_digit())
        && (port.is_empty() || port.starts_with(':'))
}

/// `reg-name`: unreserved characters, sub-delims and percent-encoded bytes. IPv4 addresses are among them.
fn is_registered_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
    let is_encoded = |rest: &str| {
        rest.as_bytes()
            .first_chunk()
            .is_some_and(|hex: &[u8; 2]| hex.iter().all(u8::is_ascii_hexdigit))
    };
    name.bytes().all(is_allowed) && name.split('%').skip(1).all(is_encoded)
}

/// A path, a URL, or `*` for OPTIONS. `CONNECT` has a host and a port as target: this server is no tunnel.
fn is_valid_target(method: &Method, target: &Uri) -> bool {
    match (target.scheme(), target.authority()) {
        (None, None) => target.path().starts_with('/') || method == Method::OPTIONS,
        (None, Some(_)) => false,
        // User and password in a URL of a request are an error (RFC 9110, 4.2.4).
        (Some(scheme), authority) => {
            (*scheme == Scheme::HTTP || *scheme == Scheme::HTTPS)
                && authority.is_some_and(|authority| !authority.as_str().contains('@'))
        }
    }
}

/// hyper decodes the last coding, which must be `chunked`. A body with another one, or with `chunked` twice, would reach the
/// handler encoded.
fn has_supported_transfer_coding(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(TRANSFER_ENCODING).iter();
    match (values.next(), values.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

#[cfg(test)]
mod tests;
