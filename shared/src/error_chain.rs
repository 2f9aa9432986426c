//! Errors with all their causes, on one line.

use std::{error::Error as StdError, fmt};

/// Displays an error with all its causes on one line.
#[derive(Debug)]
pub struct ErrorChain<'a>(pub &'a (dyn StdError + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        for cause in std::iter::successors(self.0.source(), |error| (*error).source()) {
            let text = cause.to_string();
            // The client's errors repeat their cause in their own text.
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
        }
        Ok(())
    }
}
