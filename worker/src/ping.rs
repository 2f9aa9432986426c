//! The `/ping` handler: a pure function from the value of a request to the reply record.

use kafka::Record;
use shared::message::{BadJson, MyMessage};

/// The reply to a request: key = the id of the JSON value, value = `<name> <value> ( <id> ) `, with the last space.
///
/// # Errors
/// When the value is not a JSON object with three strings.
pub(crate) fn reply(value: &[u8]) -> Result<Record, BadJson> {
    let MyMessage { id, name, value } = MyMessage::from_json(value)?;
    let text = [&name, " ", &value, " ( ", &id, " ) "].concat();
    Ok(Record::new(id.into_owned().into_bytes(), text.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
