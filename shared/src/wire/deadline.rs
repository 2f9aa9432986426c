//! How long a request is worth answering.

use std::time::Duration;

use super::Headers;

/// Ours: the milliseconds that the caller still waits when the record is written, decimal.
const MILLIS_LEFT: &str = "pingpong_millisLeft";

/// Ours: which gateway wrote it. All its records have their time from one clock.
const GATEWAY_ID: &str = "pingpong_gatewayId";

/// The longest gateway id that is taken: any client can write one.
const MAX_GATEWAY_ID_BYTES: usize = 64;

/// What a request says about its caller's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline<'a> {
    /// Who wrote it.
    pub gateway: &'a [u8],
    /// How long the caller waited from then on.
    pub left: Duration,
}

// === impl Deadline ===

impl<'a> Deadline<'a> {
    /// Reads it from a request's headers; `None` where it is not there, or malformed.
    #[must_use]
    pub fn of(headers: &'a Headers) -> Option<Self> {
        let millis = headers.get(MILLIS_LEFT)?;
        let digits = !millis.is_empty() && millis.iter().all(u8::is_ascii_digit);
        let millis = std::str::from_utf8(millis).ok().filter(|_| digits)?;
        Some(Self {
            gateway: headers.get(GATEWAY_ID).filter(|it| it.len() <= MAX_GATEWAY_ID_BYTES)?,
            left: Duration::from_millis(millis.parse().ok()?),
        })
    }

    /// Adds it to a request's headers.
    pub fn write(self, headers: &mut Headers) {
        headers.insert(MILLIS_LEFT.to_owned(), self.left.as_millis().to_string().into_bytes());
        headers.insert(GATEWAY_ID.to_owned(), self.gateway.to_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(millis: &[u8]) -> Headers {
        let id = ("pingpong_gatewayId".to_owned(), b"g1".to_vec());
        [("pingpong_millisLeft".to_owned(), millis.to_vec()), id].into()
    }

    #[test]
    fn the_bytes_are_decimal_text() {
        let deadline = Deadline {
            gateway: b"g1",
            left: Duration::from_secs(10),
        };
        let mut written = Headers::new();
        deadline.write(&mut written);
        assert_eq!(written, headers(b"10000"));
        assert_eq!(Deadline::of(&written), Some(deadline));
    }

    #[test]
    fn what_is_no_number_is_no_deadline() {
        for bad in [&b""[..], b"-1", b"+1", b"1s", b"\xff", b"99999999999999999999"] {
            assert_eq!(Deadline::of(&headers(bad)), None, "{bad:?}");
        }
        assert_eq!(Deadline::of(&Headers::new()), None);
        let mut long = headers(b"1");
        long.insert("pingpong_gatewayId".to_owned(), vec![b'x'; 65]);
        assert_eq!(Deadline::of(&long), None);
    }
}
