//! One-line display of an error and its causes.

use std::{error::Error as StdError, fmt};

/// Displays an error and all its causes on one line, separated by `: `.
#[derive(Debug)]
pub struct ErrorChain<'a>(pub &'a (dyn StdError + 'static));

// === impl ErrorChain ===

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0.to_string();
        f.write_str(&last)?;
        for cause in std::iter::successors(self.0.source(), |error| (*error).source()) {
            let text = cause.to_string();
            // Errors of rskafka include the text of their cause.
            if !last.contains(&text) {
                write!(f, ": {text}")?;
                last = text;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    fn chain(texts: &[&'static str]) -> String {
        let error = texts
            .iter()
            .rev()
            .fold(None, |source, text| Some(Box::new(Layer { text, source })));
        ErrorChain(&error.unwrap()).to_string()
    }

    #[test]
    fn causes_follow_on_one_line() {
        assert_eq!(
            chain(&["cannot connect", "io", "refused"]),
            "cannot connect: io: refused"
        );
    }

    #[test]
    fn repeated_cause_is_shown_once() {
        assert_eq!(
            chain(&["cannot connect: refused", "refused", "os error 111"]),
            "cannot connect: refused: os error 111"
        );
    }
}
