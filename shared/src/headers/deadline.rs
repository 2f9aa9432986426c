//! The deadline header of a request: how long its caller waits.

use std::time::Duration;

use super::Headers;

/// Own name. The value is the milliseconds that the caller waits after the record's timestamp (decimal), `@`, and the
/// gateway's id. It is one header because each header costs the gateway and the worker allocations.
pub(super) const DEADLINE: &str = "pingpong_deadline";

/// The longest accepted gateway id. Any client can write one.
const MAX_GATEWAY_ID_BYTES: usize = 64;

/// How long the caller of a request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline<'a> {
    /// The id of the gateway that wrote the request. One clock stamps all records of a gateway.
    pub gateway: &'a [u8],
    /// The time left at the record's timestamp.
    pub left: Duration,
}

// === impl Deadline ===

impl<'a> Deadline<'a> {
    /// Parses the deadline of a request; `None` when the header is absent or malformed.
    #[must_use]
    pub fn from_headers(headers: Headers<'a>) -> Option<Self> {
        let value = headers.get(DEADLINE)?;
        let at_sign = value.iter().position(|&byte| byte == b'@')?;
        let (millis, gateway) = value.split_at_checked(at_sign)?;
        let digits = !millis.is_empty() && millis.iter().all(u8::is_ascii_digit);
        let millis = std::str::from_utf8(millis).ok().filter(|_| digits)?;
        Some(Self {
            gateway: gateway.get(1..).filter(|id| id.len() <= MAX_GATEWAY_ID_BYTES)?,
            left: Duration::from_millis(millis.parse().ok()?),
        })
    }

    /// The value of the header.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        [self.left.as_millis().to_string().as_bytes(), b"@", self.gateway].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::HeaderBuf, *};

    fn deadline(value: &[u8]) -> Option<Deadline<'_>> {
        let mut headers = HeaderBuf::new();
        headers.push("pingpong_deadline", value);
        let left = Deadline::from_headers(headers.as_headers())?.left;
        let at_sign = value.iter().position(|byte| *byte == b'@')?;
        let gateway = &value[at_sign + 1..];
        Some(Deadline { gateway, left })
    }

    #[test]
    fn deadline_is_decimal_milliseconds_and_gateway_id() {
        let written = Deadline {
            gateway: b"g1",
            left: Duration::from_secs(10),
        };
        assert_eq!(written.to_bytes(), b"10000@g1");
        assert_eq!(deadline(b"10000@g1"), Some(written));
    }

    #[test]
    fn malformed_deadline_is_ignored() {
        for malformed in [
            &b""[..],
            b"10000",
            b"@g1",
            b"-1@g1",
            b"+1@g1",
            b"1s@g1",
            b"\xff@g1",
            b"99999999999999999999@g1",
        ] {
            assert_eq!(deadline(malformed), None, "{malformed:?}");
        }
        assert_eq!(Deadline::from_headers(Headers::default()), None);
        let long_id = format!("1@{}", "x".repeat(65));
        assert_eq!(deadline(long_id.as_bytes()), None);
    }
}
