//! Whether an answer is the right one for its request.
//!
//! The body must be `{"message":"<words> ( <id> ) "}` to the byte. The words of all requests are plain ASCII without
//! anything that JSON would escape, so the comparison needs no JSON parser and none of its cost.

use crate::head::Head;
use uuid::{Uuid, Variant};

/// An id as text.
const ID_BYTES: usize = uuid::fmt::Hyphenated::LENGTH;

/// What is wrong with an answer that claims to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// Well-formed, but with the words of another request: somebody else's answer.
    Foreign,
    /// An id that an earlier answer of the run had.
    Repeated,
    /// A body that is not what an answer looks like, or a response that is not HTTP as this client reads it.
    Malformed,
    /// The right body under another content type.
    ContentType,
    /// Bytes after the end of the answer, or before there was a request.
    Surplus,
}

// === impl Wrong ===

impl Wrong {
    /// The name it has in the report.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Foreign => "foreign",
            Self::Repeated => "repeated",
            Self::Malformed => "malformed",
            Self::ContentType => "content_type",
            Self::Surplus => "surplus",
        }
    }
}

/// The id of a right answer, or what is wrong with it.
pub(crate) fn check(head: &Head, body: &[u8], words: &[u8]) -> Result<Uuid, Wrong> {
    let message = body
        .strip_prefix(br#"{"message":""#)
        .and_then(|rest| rest.strip_suffix(br#" ) "}"#))
        .ok_or(Wrong::Malformed)?;
    let (rest, id) = message.split_last_chunk::<ID_BYTES>().ok_or(Wrong::Malformed)?;
    let found = rest.strip_suffix(b" ( ").ok_or(Wrong::Malformed)?;
    let id = well_formed(id).ok_or(Wrong::Malformed)?;
    if found != words {
        return Err(Wrong::Foreign);
    }
    if !head.is_json {
        return Err(Wrong::ContentType);
    }
    Ok(id)
}

/// A version 4 UUID in lower case, which is how both gateways write it.
fn well_formed(text: &[u8; ID_BYTES]) -> Option<Uuid> {
    let id = Uuid::try_parse_ascii(text).ok()?;
    let is_v4 = id.get_version_num() == 4 && id.get_variant() == Variant::RFC4122;
    (is_v4 && !text.iter().any(u8::is_ascii_uppercase)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0b54e0a8-9c1e-4a86-8d53-6f1c3c1f8f0e";

    fn verdict(body: &str) -> Result<Uuid, Wrong> {
        let head = Head {
            status: 200,
            is_json: true,
            ends_connection: false,
            head_bytes: 0,
            body_bytes: body.len(),
        };
        check(&head, body.as_bytes(), b"n-1 v-1")
    }

    #[test]
    fn the_right_answer_gives_its_id() {
        assert_eq!(
            verdict(&format!(r#"{{"message":"n-1 v-1 ( {ID} ) "}}"#)),
            Ok(ID.parse().unwrap())
        );
    }

    #[test]
    fn the_answer_of_another_request_is_foreign() {
        for words in ["n-2 v-2", "n-1 v-2", "v-1 n-1", "n-1 v-1 ", "n-1  v-1", "Ping Pong", ""] {
            let body = format!(r#"{{"message":"{words} ( {ID} ) "}}"#);
            assert_eq!(verdict(&body), Err(Wrong::Foreign), "{body}");
        }
    }

    #[test]
    fn what_differs_in_form_is_malformed() {
        let upper = ID.to_uppercase();
        for body in [
            String::new(),
            r#"{"error":"timeout waiting for response"}"#.to_owned(),
            format!(r#"{{"message":"n-1 v-1 ( {ID} )"}}"#),
            format!(r#"{{"message":"n-1 v-1 ({ID}) "}}"#),
            format!(r#"{{ "message":"n-1 v-1 ( {ID} ) "}}"#),
            format!("{{\"message\":\"n-1 v-1 ( {ID} ) \"}}\n"),
            format!(r#"{{"message":"n-1 v-1 ( {upper} ) "}}"#),
            r#"{"message":"n-1 v-1 ( 0b54e0a8-9c1e-1a86-8d53-6f1c3c1f8f0e ) "}"#.to_owned(),
            r#"{"message":"n-1 v-1 ( 0b54e0a8-9c1e-4a86-cd53-6f1c3c1f8f0e ) "}"#.to_owned(),
            r#"{"message":"n-1 v-1 ( 0b54e0a809c1e04a8608d5306f1c3c1f8f0ee ) "}"#.to_owned(),
        ] {
            assert_eq!(verdict(&body), Err(Wrong::Malformed), "{body}");
        }
    }

    #[test]
    fn a_cut_answer_is_malformed_wherever_the_cut_is() {
        let whole = format!(r#"{{"message":"n-1 v-1 ( {ID} ) "}}"#);
        for end in 0..whole.len() {
            assert_eq!(verdict(&whole[..end]), Err(Wrong::Malformed), "cut at {end}");
        }
    }

    #[test]
    fn the_content_type_is_part_of_the_answer() {
        let body = format!(r#"{{"message":"n-1 v-1 ( {ID} ) "}}"#);
        let head = Head {
            status: 200,
            is_json: false,
            ends_connection: false,
            head_bytes: 0,
            body_bytes: body.len(),
        };
        assert_eq!(check(&head, body.as_bytes(), b"n-1 v-1"), Err(Wrong::ContentType));
    }
}
