//! The log line for replies that cannot be used: one a second at most. It has the names of the headers, and never a value.

use std::{
    fmt::{self, Write},
    sync::Arc,
};

use parking_lot::Mutex;
use shared::{headers::Headers, log_limiter::LogLimiter};
use tracing::{info, warn};

/// Bytes of all names in a line, and of one. Any program can write replies.
const MAX_NAMES_BYTES: usize = 512;
const MAX_NAME_BYTES: usize = 64;

/// Logs replies that cannot be used. Cheap to clone; all clones share the limit.
#[derive(Debug, Clone, Default)]
pub(crate) struct UnusableReplies {
    log_limiter: Arc<Mutex<LogLimiter>>,
}

/// Why a reply cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It has neither a correlation header nor a key that is an id.
    NoCorrelationId,
    /// Its correlation header is no id of a gateway.
    InvalidCorrelationId,
    /// Its `:status` is not three digits from 200 to 599.
    InvalidStatus,
}

// === impl UnusableReplies ===

impl UnusableReplies {
    /// Logs a reply, unless another one was logged within the last second.
    pub(crate) fn log(&self, cause: Unusable, topic: &str, partition: i32, offset: i64, headers: Headers<'_>) {
        let allowed = self.log_limiter.lock().allow();
        let Some(suppressed) = allowed else { return };
        let headers = header_names(headers);
        // A caller waits for a reply with an invalid status. The others may belong to another client of the topic.
        match cause {
            Unusable::InvalidStatus => {
                warn!(%cause, reply_topic = topic, partition, offset, headers, suppressed, "a reply cannot be used");
            }
            Unusable::NoCorrelationId | Unusable::InvalidCorrelationId => {
                info!(%cause, reply_topic = topic, partition, offset, headers, suppressed, "a reply cannot be used");
            }
        }
    }
}

/// The names of headers for a line of text, escaped and bounded.
pub(crate) fn header_names(headers: Headers<'_>) -> String {
    let mut names = String::new();
    for (name, _) in headers {
        if !names.is_empty() {
            names.push_str(", ");
        }
        if names.len() >= MAX_NAMES_BYTES {
            names.push('…');
            break;
        }
        let shown = name.get(..MAX_NAME_BYTES).unwrap_or(name);
        // Writing into a string cannot fail.
        let _ = write!(names, "{}", shown.escape_ascii());
    }
    if names.is_empty() {
        names.push_str("none");
    }
    names
}

// === impl Unusable ===

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCorrelationId => "it has no correlation id",
            Self::InvalidCorrelationId => "its correlation id is not one of a gateway",
            Self::InvalidStatus => "its :status is not three digits from 200 to 599",
        })
    }
}

#[cfg(test)]
mod tests {
    use shared::headers::HeaderBuf;

    use super::*;

    fn names(headers: &[(&str, &[u8])]) -> String {
        let headers: HeaderBuf = headers.iter().copied().collect();
        header_names(headers.as_headers())
    }

    #[test]
    fn names_are_listed_without_values() {
        assert_eq!(names(&[]), "none");
        assert_eq!(names(&[(":status", b"OK"), ("cookie", b"secret")]), ":status, cookie");
    }

    #[test]
    fn names_are_escaped_and_bounded() {
        assert_eq!(names(&[("a\nb", b"")]), "a\\nb");
        let long = "\u{1}".repeat(1_000);
        let many: Vec<_> = (0..1_000).map(|_| (long.as_str(), &b""[..])).collect();
        let line = names(&many);
        assert!(line.len() < 1_000 && line.ends_with(", …"), "{line}");
    }
}
