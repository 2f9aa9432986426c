//! Values of records, as logs show them.

use std::fmt;

/// So much of a value is shown, in bytes.
const SHOWN_BYTES: usize = 120;

/// A value for a log: escaped, and cut to a line's length.
#[derive(Debug)]
pub(crate) struct Truncated<'a>(pub(crate) &'a [u8]);

// === impl Truncated ===

impl fmt::Display for Truncated<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.get(..SHOWN_BYTES).unwrap_or(self.0);
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
    fn a_value_is_shown_escaped_and_cut() {
        assert_eq!(Truncated(b"a\n\x1b[31m").to_string(), r"a\n\x1b[31m");
        let long = Truncated(&[b'x'; 1000]).to_string();
        assert!(long.ends_with("… (1000 bytes)") && long.len() < 200, "{long}");
    }
}
