//! The `/ping` handler: a pure function from a request to its reply.

use shared::message::{BadJson, MyMessage};

use crate::{Failure, Reply, Request};

/// The value does not have the shape that the contract requires.
#[derive(Debug, thiserror::Error)]
#[error("its value is not a JSON object with the strings id, name and value")]
struct NoPing(#[source] BadJson);

/// The reply to a request: key = the id of the JSON value, value = `<name> <value> ( <id> ) `, with the last space.
///
/// # Errors
/// When the value is not a JSON object with three strings: the record is skipped.
pub(crate) fn answer(request: &Request) -> Result<Reply, Failure> {
    let message = MyMessage::from_json(request.body()).map_err(|error| Failure::skip(NoPing(error)))?;
    let MyMessage { id, name, value } = message;
    let text = [&name, " ", &value, " ( ", &id, " ) "].concat();
    Ok(Reply::new(text).key(id.into_owned()))
}

#[cfg(test)]
mod tests {
    use shared::headers::ReplyTo;

    use super::*;

    fn reply(value: &[u8]) -> Result<kafka::Record, Failure> {
        let request = Request::post("/ping").key("k").body(value);
        let reply_to = ReplyTo::from_headers(Default::default()).unwrap();
        Ok(answer(&request)?.into_record(request.key(), reply_to))
    }

    #[test]
    fn reply_has_the_key_and_value_of_the_contract() {
        let record = reply(br#"{"id":"0-1","name":"Ping","value":"Pong","more":0}"#).unwrap();
        assert_eq!(record.key.as_deref(), Some(&b"0-1"[..]));
        assert_eq!(record.value.as_deref(), Some(&b"Ping Pong ( 0-1 ) "[..]));
    }

    #[test]
    fn any_json_string_is_a_valid_id_name_or_value() {
        let record = reply(r#"{"id":"","name":"ä\n","value":"\u0000"}"#.as_bytes()).unwrap();
        assert_eq!(record.key.as_deref(), Some(&b""[..]));
        assert_eq!(record.value.as_deref(), Some("ä\n \0 (  ) ".as_bytes()));
    }

    #[test]
    fn invalid_values_are_rejected() {
        for invalid in [
            &b""[..],
            b"{}",
            b"\xff",
            br#"["a","b","c"]"#,
            br#"{"id":1,"name":"","value":""}"#,
        ] {
            assert!(reply(invalid).is_err());
        }
    }
}
