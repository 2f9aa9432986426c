//! The bytes of a request, built once and renumbered for each use.
//!
//! The number has a fixed width, so to renumber copies twelve digits and allocates nothing.

use crate::{load::RequestKind, response::Form};
use std::{io::Write, net::SocketAddr};
use uuid::Uuid;

/// Eleven days at a million requests per second.
const DIGITS: usize = 12;

/// The digits of number 0. Nothing else in a request looks like it.
const ZEROS: &[u8; DIGITS] = b"000000000000";

/// Length of the id of a run.
const RUN_ID_BYTES: usize = 8;

/// `{"name":"n-<run>-<number>","value":"v-<run>-<number>"}`
pub(crate) const MIN_BODY_BYTES: usize = r#"{"name":"n--","value":"v--"}"#.len() + 2 * (RUN_ID_BYTES + DIGITS);

/// The same with `"id":"<uuid>",` before the name.
pub(crate) const MIN_ROUTE_BODY_BYTES: usize = MIN_BODY_BYTES + r#""id":"","#.len() + 36;

/// The request of one connection.
#[derive(Debug)]
pub(crate) struct Request {
    form: Form,
    bytes: Vec<u8>,
    /// `<name> <value>`, which the response must repeat.
    message: Vec<u8>,
    /// Where the digits are in `bytes` and in `message`.
    digits_in_bytes: Vec<usize>,
    digits_in_message: Vec<usize>,
}

/// Distinguishes the requests of one run from late ones of another.
pub(crate) fn random_run_id() -> String {
    let mut text = Uuid::new_v4().simple().to_string();
    text.truncate(RUN_ID_BYTES);
    text
}

fn digit_positions(text: &[u8]) -> Vec<usize> {
    let windows = text.windows(DIGITS).enumerate();
    windows
        .filter(|(_, window)| window == ZEROS)
        .map(|(position, _)| position)
        .collect()
}

/// The headers of a request to a route, beside those of any request.
pub(crate) const ROUTE_HEADERS: [&str; 4] = ["accept-language", "idempotency-key", "x-customer", "x-tenant"];

fn name_and_value(run_id: &str, padding: usize) -> (String, String) {
    let name = format!("n-{run_id}-{:0DIGITS$}", 0);
    let value = format!("v-{run_id}-{:0DIGITS$}{}", 0, "x".repeat(padding));
    (name, value)
}

// === impl Request ===

impl Request {
    pub(crate) fn new(kind: RequestKind, target: SocketAddr, run_id: &str) -> Self {
        let (text, message) = match kind {
            RequestKind::Get => (
                format!("GET /ping HTTP/1.1\r\nhost: {target}\r\n\r\n"),
                "Ping Pong".to_owned(),
            ),
            RequestKind::Post { body_bytes } => {
                let padding = body_bytes.unwrap_or(0).saturating_sub(MIN_BODY_BYTES);
                let (name, value) = name_and_value(run_id, padding);
                let body = format!(r#"{{"name":"{name}","value":"{value}"}}"#);
                let headers = format!("content-type: application/json\r\ncontent-length: {}", body.len());
                let text = format!("POST /ping HTTP/1.1\r\nhost: {target}\r\n{headers}\r\n\r\n{body}");
                (text, format!("{name} {value}"))
            }
            RequestKind::Route { body_bytes } => {
                let (name, value) = name_and_value(run_id, body_bytes.saturating_sub(MIN_ROUTE_BODY_BYTES));
                // The worker of `/ping` answers it, as long as the body is a request of `/ping`. A version 4 UUID.
                let id = format!("{run_id}-0000-4000-8000-{:0DIGITS$}", 0);
                let body = format!(r#"{{"id":"{id}","name":"{name}","value":"{value}"}}"#);
                let headers: String = ROUTE_HEADERS.map(|name| format!("{name}: {run_id}\r\n")).concat();
                let length = body.len();
                let text = format!(
                    "POST /orders/{run_id}/items/{:0DIGITS$} HTTP/1.1\r\nhost: {target}\r\n\
                     content-type: application/json\r\n{headers}content-length: {length}\r\n\r\n{body}",
                    0
                );
                (text, format!("{name} {value}"))
            }
        };
        Self {
            form: match kind {
                RequestKind::Get | RequestKind::Post { .. } => Form::Ping,
                RequestKind::Route { .. } => Form::Route,
            },
            digits_in_bytes: digit_positions(text.as_bytes()),
            digits_in_message: digit_positions(message.as_bytes()),
            bytes: text.into_bytes(),
            message: message.into_bytes(),
        }
    }

    /// Numbers wrap after twelve digits.
    pub(crate) fn set_number(&mut self, number: u64) {
        let mut digits = *ZEROS;
        let number = number % 10_u64.pow(12);
        // The number has at most as many digits as there is room for.
        let _ = write!(digits.as_mut_slice(), "{number:0DIGITS$}");
        let bytes = (&mut self.bytes, &self.digits_in_bytes);
        let message = (&mut self.message, &self.digits_in_message);
        for (text, positions) in [bytes, message] {
            for &position in positions {
                if let Some(old) = text.get_mut(position..position + DIGITS) {
                    old.copy_from_slice(&digits);
                }
            }
        }
    }

    /// The form of its response.
    pub(crate) fn form(&self) -> Form {
        self.form
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn message(&self) -> &[u8] {
        &self.message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: RequestKind) -> (Request, String) {
        let run_id = random_run_id();
        (Request::new(kind, ([127, 0, 0, 1], 8080).into(), &run_id), run_id)
    }

    fn body(request: &Request) -> String {
        let text = String::from_utf8(request.bytes().to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        body.to_owned()
    }

    #[test]
    fn each_request_has_a_unique_name_and_value() {
        let (mut request, run) = request(RequestKind::Post { body_bytes: None });
        request.set_number(1_234);
        let first = body(&request);
        let (name, value) = (format!("n-{run}-000000001234"), format!("v-{run}-000000001234"));
        assert_eq!(first, format!(r#"{{"name":"{name}","value":"{value}"}}"#));
        assert_eq!(request.message(), format!("{name} {value}").as_bytes());
        request.set_number(1_235);
        assert_ne!(body(&request), first);
    }

    #[test]
    fn body_is_padded_to_its_length() {
        for (wanted, len) in [
            (None, MIN_BODY_BYTES),
            (Some(MIN_BODY_BYTES), MIN_BODY_BYTES),
            (Some(65_536), 65_536),
        ] {
            let (mut request, _) = request(RequestKind::Post { body_bytes: wanted });
            request.set_number(7);
            let body = body(&request);
            assert_eq!(body.len(), len);
            let json: serde_json::Value = serde_json::from_str(&body).unwrap();
            let message = format!("{} {}", json["name"].as_str().unwrap(), json["value"].as_str().unwrap());
            assert_eq!(request.message(), message.as_bytes());
        }
    }

    #[test]
    fn request_to_a_route_has_an_id_of_its_own() {
        let (mut request, run) = request(RequestKind::Route { body_bytes: 200 });
        request.set_number(1_234);
        let text = String::from_utf8(request.bytes().to_vec()).unwrap();
        assert!(text.starts_with(&format!("POST /orders/{run}/items/000000001234 HTTP/1.1\r\n")));
        let body = body(&request);
        assert_eq!(body.len(), 200);
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(json["id"], format!("{run}-0000-4000-8000-000000001234"));
        let message = format!("{} {}", json["name"].as_str().unwrap(), json["value"].as_str().unwrap());
        assert_eq!(request.message(), message.as_bytes());
    }

    #[test]
    fn get_requests_are_equal() {
        let (mut request, _) = request(RequestKind::Get);
        request.set_number(1);
        assert_eq!(request.bytes(), b"GET /ping HTTP/1.1\r\nhost: 127.0.0.1:8080\r\n\r\n");
        assert_eq!(request.message(), b"Ping Pong");
    }
}
