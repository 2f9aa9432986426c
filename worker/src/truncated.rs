//! Formats record values for log lines.

use std::fmt;

/// The longest part of a value in a log line, in bytes.
const MAX_BYTES: usize = 120;

/// Displays a value with escapes for everything but printable ASCII, and at most [`MAX_BYTES`] of it.
#[derive(Debug)]
pub(crate) struct Truncated<'a>(pub(crate) &'a [u8]);

// === impl Truncated ===

impl fmt::Display for Truncated<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.get(..MAX_BYTES).unwrap_or(self.0);
        write!(f, "{}", shown.escape_ascii())?;
        if shown.len() < self.0.len() {
            write!(f, "… ({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logged_value_is_escaped_and_truncated() {
        assert_eq!(Truncated(b"a\n\x1b[31m").to_string(), r"a\n\x1b[31m");
        let long = Truncated(&[b'x'; 1000]).to_string();
        assert!(long.ends_with("… (1000 bytes)") && long.len() < 200, "{long}");
    }
}
