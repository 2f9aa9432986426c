//! The bytes of a request, built once and renumbered for each use.
//!
//! The number has a fixed width, so neither the length nor anything else around it changes: renumbering copies twelve
//! digits and allocates nothing.

use crate::load::Question;
use std::net::SocketAddr;
use uuid::Uuid;

/// Digits of the number: enough for eleven days at a million requests per second.
const DIGITS: usize = 12;
/// Digits of the run's id.
const RUN_ID_BYTES: usize = 8;
/// `n-<run>-<number>`, and the same for the value.
const WORD_BYTES: usize = 2 + RUN_ID_BYTES + 1 + DIGITS;
/// The body without padding.
pub(crate) const MIN_BODY_BYTES: usize = r#"{"name":"","value":""}"#.len() + 2 * WORD_BYTES;

/// Tells the requests of one run from those of another that may still be on their way.
#[derive(Debug, Clone)]
pub(crate) struct RunId(String);

/// One connection's request.
#[derive(Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    /// `<name> <value>`, as the answer must repeat it.
    words: Vec<u8>,
    /// Where the digits begin, in `bytes` and in `words`.
    digits_in_bytes: Vec<usize>,
    digits_in_words: Vec<usize>,
}

// === impl RunId ===

impl RunId {
    pub(crate) fn random() -> Self {
        let mut text = Uuid::new_v4().simple().to_string();
        text.truncate(RUN_ID_BYTES);
        Self(text)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

// === impl Request ===

impl Request {
    pub(crate) fn new(question: Question, target: SocketAddr, run: &RunId) -> Self {
        match question {
            Question::Get => Self {
                bytes: format!("GET /ping HTTP/1.1\r\nhost: {target}\r\n\r\n").into_bytes(),
                words: b"Ping Pong".to_vec(),
                digits_in_bytes: Vec::new(),
                digits_in_words: Vec::new(),
            },
            Question::Post { body_bytes } => {
                let padding = "x".repeat(body_bytes.unwrap_or(0).saturating_sub(MIN_BODY_BYTES));
                Self::post(target, run, &padding)
            }
        }
    }

    fn post(target: SocketAddr, run: &RunId, padding: &str) -> Self {
        let zeros = "0".repeat(DIGITS);
        let name = format!("n-{}-{zeros}", run.as_str());
        let value = format!("v-{}-{zeros}{padding}", run.as_str());
        let before_name = format!(
            "POST /ping HTTP/1.1\r\nhost: {target}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{{\"name\":\"",
            MIN_BODY_BYTES + padding.len(),
        );
        let before_value = format!("{before_name}{name}\",\"value\":\"");
        let into_word = WORD_BYTES - DIGITS;
        Self {
            digits_in_bytes: vec![before_name.len() + into_word, before_value.len() + into_word],
            digits_in_words: vec![into_word, name.len() + 1 + into_word],
            bytes: format!("{before_value}{value}\"}}").into_bytes(),
            words: format!("{name} {value}").into_bytes(),
        }
    }

    /// Makes it the request with this number; numbers wrap after twelve digits.
    pub(crate) fn number(&mut self, mut number: u64) {
        let mut digits = [b'0'; DIGITS];
        for digit in digits.iter_mut().rev() {
            // A remainder by ten fits.
            *digit += u8::try_from(number % 10).unwrap_or_default();
            number /= 10;
        }
        let bytes = self.digits_in_bytes.iter().map(|at| (*at, true));
        let words = self.digits_in_words.iter().map(|at| (*at, false));
        for (at, in_bytes) in bytes.chain(words) {
            let text = if in_bytes { &mut self.bytes } else { &mut self.words };
            if let Some(place) = text.get_mut(at..at + DIGITS) {
                place.copy_from_slice(&digits);
            }
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn words(&self) -> &[u8] {
        &self.words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(question: Question) -> (Request, String) {
        let run = RunId::random();
        (
            Request::new(question, ([127, 0, 0, 1], 8080).into(), &run),
            run.as_str().to_owned(),
        )
    }

    fn body(request: &Request) -> String {
        let text = String::from_utf8(request.bytes().to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        body.to_owned()
    }

    #[test]
    fn each_number_has_words_of_its_own() {
        let (mut request, run) = request(Question::Post { body_bytes: None });
        request.number(1_234);
        let first = body(&request);
        assert_eq!(
            first,
            format!(r#"{{"name":"n-{run}-000000001234","value":"v-{run}-000000001234"}}"#)
        );
        assert_eq!(
            request.words(),
            format!("n-{run}-000000001234 v-{run}-000000001234").as_bytes()
        );
        request.number(1_235);
        assert_ne!(body(&request), first);
    }

    #[test]
    fn the_body_has_the_wanted_size() {
        for (wanted, len) in [
            (None, MIN_BODY_BYTES),
            (Some(MIN_BODY_BYTES), MIN_BODY_BYTES),
            (Some(65_536), 65_536),
        ] {
            let (mut request, _) = request(Question::Post { body_bytes: wanted });
            request.number(7);
            let body = body(&request);
            assert_eq!(body.len(), len);
            let json: serde_json::Value = serde_json::from_str(&body).unwrap();
            let words = format!("{} {}", json["name"].as_str().unwrap(), json["value"].as_str().unwrap());
            assert_eq!(request.words(), words.as_bytes());
        }
    }

    #[test]
    fn get_is_always_the_same() {
        let (mut request, _) = request(Question::Get);
        request.number(1);
        assert_eq!(request.bytes(), b"GET /ping HTTP/1.1\r\nhost: 127.0.0.1:8080\r\n\r\n");
        assert_eq!(request.words(), b"Ping Pong");
    }
}
