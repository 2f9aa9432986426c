//! Where hostile bytes come in, for `fuzz/`. Its corpus is run by the tests here, too.

use std::time::Duration;

use shared::headers::{self, Deadline, Headers, ReplyTo};

use crate::ping::answer;

/// The value of a request.
///
/// # Panics
/// When the reply is not the contract's.
pub fn request(value: &[u8]) {
    if let Ok(record) = answer(value) {
        let id = String::from_utf8(record.key).expect("the key is text");
        let text = String::from_utf8(record.value).expect("the value is text");
        assert!(text.ends_with(&format!(" ( {id} ) ")), "{text:?}");
        assert_eq!(record.headers, Headers::new());
    }
}

/// The headers of a record, and its key: lines of `name: value`, the key's without a name.
///
/// # Panics
/// When a reply would go where none may go, or carry what its request did not say.
pub fn headers(lines: &[u8]) {
    let mut headers = Headers::new();
    let mut key = None;
    for line in lines.split(|it| *it == b'\n') {
        let colon = line.iter().position(|it| *it == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b": ").unwrap_or(value).to_vec();
        match String::from_utf8(name.to_vec()) {
            Ok(name) if name.is_empty() => key = Some(value),
            Ok(name) => drop(headers.insert(name, value)),
            Err(_) => {}
        }
    }
    // With a correlation header the key does not count.
    if let Some(id) = headers::correlation_id(&headers, None) {
        assert_eq!(headers::correlation_id(&headers, key.as_deref()), Some(id));
    }
    match ReplyTo::from_headers(&headers) {
        Ok(reply_to) => {
            if let Some((topic, partition)) = reply_to.address {
                assert!(partition >= 0);
                assert!(
                    (1..=249).contains(&topic.len()) && !topic.starts_with("__") && topic.is_ascii(),
                    "{topic:?}"
                );
            }
            let key = key.as_deref().unwrap_or_default();
            // Of 16 raw bytes the key tells nothing, but the gateway that is told by the key alone writes text.
            if let Some(id) = headers::correlation_id(&headers, None).filter(|_| key.len() != 16) {
                assert_eq!(headers::correlation_id(&reply_to.headers(key), Some(key)), Some(id));
            }
            for (name, value) in reply_to.headers(key) {
                assert!(
                    headers.get(&name) == Some(&value) || name == "kafka_nest-is-disposed",
                    "{name}"
                );
            }
        }
        Err(malformed) => {
            let line = malformed.to_string();
            assert!(
                line.len() < 500 && line.bytes().all(|it| matches!(it, b' '..=b'~')),
                "{line:?}"
            );
        }
    }
    if let Some(deadline) = Deadline::from_headers(&headers) {
        let mut written = Headers::new();
        deadline.write(&mut written);
        assert_eq!(Deadline::from_headers(&written), Some(deadline));
        assert!(deadline.left <= Duration::from_millis(u64::MAX));
    }
    let _ = (headers::handler_error(&headers), headers::is_heartbeat(key.as_deref()));
}

#[cfg(test)]
#[path = "../../dev/fuzz/corpus.rs"]
mod corpus;

#[cfg(test)]
mod tests {
    use super::{corpus::each, *};

    #[test]
    fn nothing_in_the_corpus_does_harm() {
        each("request", request);
        each("headers", headers);
    }
}
