//! How long a request is worth answering.

use std::time::Duration;

use super::Headers;

/// Ours: the milliseconds that the caller waits from the record's timestamp on, decimal; `@`; and which gateway wrote
/// it. One header for both: neither is of use without the other, and each header costs both halves allocations.
pub(super) const DEADLINE: &str = "pingpong_deadline";

/// The longest gateway id that is taken: any client can write one.
const MAX_GATEWAY_ID_BYTES: usize = 64;

/// What a request says about its caller's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline<'a> {
    /// Who wrote it. All its records have their time from one clock.
    pub gateway: &'a [u8],
    /// How long the caller waited from then on.
    pub left: Duration,
}

// === impl Deadline ===

impl<'a> Deadline<'a> {
    /// Reads it from a request's headers; `None` where it is not there, or malformed.
    #[must_use]
    pub fn of(headers: &'a Headers) -> Option<Self> {
        let value = headers.get(DEADLINE)?;
        let (millis, gateway) = value.split_at_checked(value.iter().position(|&it| it == b'@')?)?;
        let digits = !millis.is_empty() && millis.iter().all(u8::is_ascii_digit);
        let millis = std::str::from_utf8(millis).ok().filter(|_| digits)?;
        Some(Self {
            gateway: gateway.get(1..).filter(|it| it.len() <= MAX_GATEWAY_ID_BYTES)?,
            left: Duration::from_millis(millis.parse().ok()?),
        })
    }

    /// Adds it to a request's headers.
    pub fn write(self, headers: &mut Headers) {
        let mut value = self.left.as_millis().to_string().into_bytes();
        value.reserve_exact(1 + self.gateway.len());
        value.push(b'@');
        value.extend_from_slice(self.gateway);
        headers.insert(DEADLINE.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &[u8]) -> Headers {
        [("pingpong_deadline".to_owned(), value.to_vec())].into()
    }

    #[test]
    fn the_bytes_are_decimal_text_and_the_gateway() {
        let deadline = Deadline {
            gateway: b"g1",
            left: Duration::from_secs(10),
        };
        let mut written = Headers::new();
        deadline.write(&mut written);
        assert_eq!(written, headers(b"10000@g1"));
        assert_eq!(Deadline::of(&written), Some(deadline));
    }

    #[test]
    fn what_is_no_number_is_no_deadline() {
        for bad in [
            &b""[..],
            b"10000",
            b"@g1",
            b"-1@g1",
            b"+1@g1",
            b"1s@g1",
            b"\xff@g1",
            b"99999999999999999999@g1",
        ] {
            assert_eq!(Deadline::of(&headers(bad)), None, "{bad:?}");
        }
        assert_eq!(Deadline::of(&Headers::new()), None);
        let long = format!("1@{}", "x".repeat(65));
        assert_eq!(Deadline::of(&headers(long.as_bytes())), None);
    }
}
