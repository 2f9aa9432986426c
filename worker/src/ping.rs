//! The work itself: from a request's value to the reply, without any I/O.

use kafka::Record;
use shared::message::{BadJson, MyMessage};

/// The reply record for a request: key = the id of the JSON value, value = `<name> <value> ( <id> ) `, with the
/// last space.
///
/// # Errors
/// When the value is not a JSON object with three strings.
pub(crate) fn answer(value: &[u8]) -> Result<Record, BadJson> {
    let MyMessage { id, name, value } = MyMessage::from_json(value)?;
    let text = [&name, " ", &value, " ( ", &id, " ) "].concat();
    Ok(Record::new(id.into_owned().into_bytes(), text.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_the_contracts() {
        let record = answer(br#"{"id":"0-1","name":"Ping","value":"Pong","more":0}"#).unwrap();
        assert_eq!(record.key, b"0-1");
        assert_eq!(record.value, b"Ping Pong ( 0-1 ) ");
    }

    #[test]
    fn any_string_is_an_id_and_any_text_a_word() {
        let record = answer(r#"{"id":"","name":"ä\n","value":"\u0000"}"#.as_bytes()).unwrap();
        assert_eq!(record.key, b"");
        assert_eq!(record.value, "ä\n \0 (  ) ".as_bytes());
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            &b""[..],
            b"{}",
            b"\xff",
            br#"["a","b","c"]"#,
            br#"{"id":1,"name":"","value":""}"#,
        ] {
            assert!(answer(bad).is_err());
        }
    }
}
