//! Fuzz targets for the untrusted input of the worker. `dev/fuzz` runs them; a unit test runs its corpus.

use std::time::Duration;

use shared::headers::{self, Deadline, HeaderBuf, Headers, ReplyTo};

use crate::{Request, ping};

/// The value of a request.
///
/// # Panics
/// When the reply does not follow the contract.
pub fn request(value: &[u8]) {
    let request = Request::post("/ping").body(value);
    if let Ok(reply) = ping::answer(&request) {
        let reply_to = ReplyTo::from_headers(Headers::default()).expect("no header is malformed");
        let record = reply.into_record(None, reply_to);
        let id = String::from_utf8(record.key.unwrap_or_default()).expect("the key is text");
        let text = String::from_utf8(record.value.unwrap_or_default()).expect("the value is text");
        assert!(text.ends_with(&format!(" ( {id} ) ")), "{text:?}");
        assert_eq!(record.headers, HeaderBuf::new());
    }
}

/// The headers and the key of a record, as lines of `name: value`; the line of the key has no name.
///
/// # Panics
/// When the address of the reply is not allowed, or a header of the reply is not from the request.
pub fn headers(lines: &[u8]) {
    let mut lines_of_headers = HeaderBuf::new();
    let mut key = None;
    for line in lines.split(|byte| *byte == b'\n') {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b": ").unwrap_or(value).to_vec();
        match String::from_utf8(name.to_vec()) {
            Ok(name) if name.is_empty() => key = Some(value),
            Ok(name) => lines_of_headers.push(&name, &value),
            Err(_) => {}
        }
    }
    let headers = lines_of_headers.as_headers();
    // The correlation header takes precedence over the key.
    if let Some(id) = headers::correlation_id(headers, None) {
        assert_eq!(headers::correlation_id(headers, key.as_deref()), Some(id));
    }
    match ReplyTo::from_headers(headers) {
        Ok(reply_to) => {
            if let Some((topic, partition)) = reply_to.address {
                assert!(partition >= 0);
                assert!(
                    (1..=249).contains(&topic.len()) && !topic.starts_with("__") && topic.is_ascii(),
                    "{topic:?}"
                );
            }
            let key = key.as_deref().unwrap_or_default();
            // The key carries the id as text only, so raw ids of 16 bytes are exempt.
            if let Some(id) = headers::correlation_id(headers, None).filter(|_| key.len() != 16) {
                let reply = reply_to.headers(key);
                assert_eq!(headers::correlation_id(reply.as_headers(), Some(key)), Some(id));
            }
            for (name, value) in reply_to.headers(key).as_headers() {
                let name = std::str::from_utf8(name).expect("the name is text");
                assert!(headers.get(name) == value || name == "kafka_nest-is-disposed", "{name}");
            }
        }
        Err(malformed) => {
            let line = malformed.to_string();
            assert!(
                line.len() < 500 && line.bytes().all(|byte| matches!(byte, b' '..=b'~')),
                "{line:?}"
            );
        }
    }
    if let Some(deadline) = Deadline::from_headers(headers) {
        assert!(deadline.left <= Duration::from_millis(u64::MAX));
    }
    let _ = (headers::handler_error(headers), headers::is_heartbeat(key.as_deref()));
}

#[cfg(test)]
#[path = "../../dev/fuzz/corpus.rs"]
mod corpus;

#[cfg(test)]
mod tests {
    use super::{corpus::each, *};

    #[test]
    fn corpus_passes() {
        each("request", request);
        each("headers", headers);
    }
}
