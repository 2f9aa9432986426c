//! The text of a reply: the response that the gateway would make of it.

use std::fmt::Write;

use hyper::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderName},
};
use kafka::ConsumedRecord;
use serde_json::json;
use shared::headers::{self, Headers, TRACEPARENT, TRACESTATE, http};

use super::findings::shown;
use crate::{
    http_reply::{BadStatus, HttpReply},
    routes::{Contract, Route},
    unusable_replies::header_names,
};

/// The bytes of a body that are shown if it is no text.
const SHOWN_BYTES: usize = 1024;

/// The response to the caller. Without a route of the file, `lists_all` headers.
///
/// # Errors
/// Why the reply cannot be used.
pub(super) fn answer(record: &ConsumedRecord, route: &Route, lists_all: bool) -> Result<String, String> {
    let found = record.headers();
    if let Some(error) = headers::handler_error(found) {
        return Ok(format!(
            "{}\n\nthe service failed: its reply has kafka_nest-err {}",
            StatusCode::INTERNAL_SERVER_ERROR,
            shown(error)
        ));
    }
    let value = record.value().unwrap_or_default();
    if route.contract == Contract::Ping {
        let body = json!({ "message": String::from_utf8_lossy(value) });
        return Ok(format!("{}\n\n{body}", StatusCode::OK));
    }
    let mut route = route.clone();
    if lists_all {
        route.reply_headers = http_fields(found).collect();
    }
    let reply = HttpReply::from_record(record, &route).map_err(|BadStatus| {
        format!(
            "the reply has :status {}, which is not three digits from 200 to 599: its caller gets 502; its headers: {}",
            shown(found.get(http::STATUS).unwrap_or_default()),
            header_names(found)
        )
    })?;
    let mut text = reply.status.to_string();
    if found.get(http::STATUS).is_none() {
        text.push_str(" (the reply has no :status)");
    }
    for (name, value) in &reply.headers {
        // Writing into a string cannot fail.
        let _ = write!(text, "\n{name}: {}", value.as_bytes().escape_ascii());
    }
    let _ = write!(text, "\n\n{}", body(&reply.body));
    let withheld: Vec<_> = http_fields(found)
        .filter(|name| *name != CONTENT_TYPE && !route.reply_headers.contains(name))
        .map(|name| name.to_string())
        .collect();
    if !withheld.is_empty() {
        let _ = write!(
            text,
            "\n\nheaders of the reply that its caller does not get, because reply_headers does not list them: {}",
            withheld.join(", ")
        );
    }
    if reply.dropped > 0 {
        let _ = write!(
            text,
            "\n\nheaders of the reply that cannot be headers of a response: {}",
            reply.dropped
        );
    }
    Ok(text)
}

/// The names of headers that a response could have, each once.
fn http_fields(found: Headers<'_>) -> impl Iterator<Item = HeaderName> {
    let mut names: Vec<HeaderName> = Vec::new();
    for (name, _) in found {
        let Ok(name) = HeaderName::from_bytes(&name.to_ascii_lowercase()) else {
            continue;
        };
        let is_own = [TRACEPARENT, TRACESTATE].contains(&name.as_str());
        if headers::is_http_field(name.as_str()) && !is_own && !names.contains(&name) {
            names.push(name);
        }
    }
    names.into_iter()
}

fn body(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let shown = bytes.get(..SHOWN_BYTES).unwrap_or(bytes);
            format!("{} bytes that are not UTF-8: {}", bytes.len(), shown.escape_ascii())
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka::Record;
    use shared::headers::HeaderBuf;

    use super::*;
    use crate::routes::testing;

    fn record(headers: &[(&str, &[u8])], value: &[u8]) -> ConsumedRecord {
        let headers: HeaderBuf = headers.iter().copied().collect();
        let record = Record::new(b"k".to_vec(), value.to_vec());
        Record { headers, ..record }.into()
    }

    #[test]
    fn response_is_told_with_status_headers_and_body() {
        let route = testing::route("on = 'POST /a'\nreply_headers = ['location']");
        let reply = record(
            &[
                ("kafka_correlationId", b"id"),
                (":status", b"201"),
                ("content-type", b"text/plain"),
                ("location", b"/a/1"),
                ("x-internal", b"1"),
                ("traceparent", b"t"),
            ],
            b"done",
        );
        assert_eq!(
            answer(&reply, &route, false).unwrap(),
            "201 Created\ncontent-type: text/plain\nlocation: /a/1\n\ndone\n\nheaders of the reply that its caller does not \
             get, because reply_headers does not list them: x-internal"
        );
        let all = answer(&reply, &route, true).unwrap();
        assert!(
            all.contains("\nx-internal: 1\n") && !all.contains("does not list"),
            "{all}"
        );
    }

    #[test]
    fn reply_without_a_status_is_200() {
        let route = testing::route("on = 'GET /a'");
        assert_eq!(
            answer(&record(&[], b"\xff\n"), &route, true).unwrap(),
            "200 OK (the reply has no :status)\n\n2 bytes that are not UTF-8: \\xff\\n"
        );
    }

    #[test]
    fn impossible_status_is_told() {
        let route = testing::route("on = 'GET /a'");
        let cause = answer(&record(&[(":status", b"OK")], b""), &route, true).unwrap_err();
        assert!(
            cause.contains("the reply has :status \"OK\"") && cause.contains("502"),
            "{cause}"
        );
    }

    #[test]
    fn failure_of_nest_and_the_answer_of_ping_are_told() {
        let route = testing::route("on = 'GET /a'");
        let failed = answer(&record(&[("kafka_nest-err", b"boom")], b""), &route, true).unwrap();
        assert!(failed.starts_with("500 ") && failed.contains("\"boom\""), "{failed}");
        let ping = testing::route("on = 'GET /ping'\ncontract = 'ping'");
        assert_eq!(
            answer(&record(&[], b"Ping Pong"), &ping, false).unwrap(),
            "200 OK\n\n{\"message\":\"Ping Pong\"}"
        );
    }
}
