//! Why a handler could not do its work, and what its caller is told.

use std::{error::Error, fmt};

use serde_json::json;
use shared::error_chain::ErrorChain;

use crate::{Reply, Status, reply::to_status};

/// What callers are told of an error that is not for them.
pub(crate) const SERVICE_FAILED: &str = "the service failed";

/// A handler failed.
///
/// - [`Failure::new`] tells the caller why: the reply has the status, and the body `{"error":"…"}`.
/// - Any other error becomes a failure with `?`: the caller gets 500 `the service failed`, and the text of the error goes to
///   the log only. Types that are no [`Error`] themselves, such as `anyhow::Error`, need
///   `.map_err(|error| Failure::new(500, "the service failed").because(error))`.
///
/// With a caller, only failures with a status from 500 on are logged, at most one line a second.
///
/// As in anyhow, a failure is no [`Error`] itself.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    status: Status,
    message: String,
    /// For the log only.
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The caller is told. Without a caller the request is tried again.
    Failed,
    /// There is no reply, and no further attempt.
    Skipped,
    /// The request was surely not executed: it is tried again until its deadline, and this is no attempt.
    NotExecuted,
}

// === impl Failure ===

impl Failure {
    /// A failure that the caller is told about.
    ///
    /// ```
    /// use worker::Failure;
    ///
    /// let failure = Failure::new(422, "quantity must not be 0");
    /// assert_eq!(failure.status(), 422);
    /// ```
    ///
    /// # Panics
    /// When the status is not one from 200 to 599. In a handler, that is a reply with status 500.
    #[must_use]
    pub fn new(status: impl TryInto<Status>, message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Failed,
            status: to_status(status),
            message: message.into(),
            source: None,
        }
    }

    /// The record is no request of this service: it is logged, counted, and neither answered nor tried again. A caller that
    /// waits gets 504 after its timeout; without a caller, the record is no dead letter.
    #[must_use]
    pub fn skip(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            kind: Kind::Skipped,
            ..Self::internal(cause.into())
        }
    }

    /// The request was surely not executed, because the service behind this worker is not there.
    pub(crate) fn not_executed(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            kind: Kind::NotExecuted,
            ..Self::internal(cause.into())
        }
    }

    /// A failure whose text is for the log only.
    pub(crate) fn internal(source: Box<dyn Error + Send + Sync>) -> Self {
        Self {
            kind: Kind::Failed,
            status: Status::INTERNAL_SERVER_ERROR,
            message: SERVICE_FAILED.to_owned(),
            source: Some(source),
        }
    }

    /// Adds the cause, which the caller never sees.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(cause.into());
        self
    }

    /// The status of the reply.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// What the caller is told.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The reply that tells the caller.
    pub(crate) fn to_reply(&self) -> Reply {
        let body = json!({ "error": self.message }).to_string();
        Reply::new(body).status(self.status)
    }
}

/// The text for the log: status, message and causes.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) if self.message == SERVICE_FAILED => write!(f, "{}", ErrorChain(&**source)),
            Some(source) => write!(f, "{}: {}", self.message, ErrorChain(&**source)),
            None => write!(f, "{}", self.message),
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::internal(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken() -> Result<Reply, Failure> {
        let number: u32 = "x".parse()?;
        Ok(Reply::new(number.to_string()))
    }

    #[test]
    fn text_of_any_error_is_for_the_log_only() {
        let failure = broken().unwrap_err();
        assert_eq!(
            (failure.status(), failure.message()),
            (Status::INTERNAL_SERVER_ERROR, SERVICE_FAILED)
        );
        assert_eq!(failure.to_string(), "invalid digit found in string");
        assert_eq!(failure.to_reply().body(), br#"{"error":"the service failed"}"#);
    }

    #[test]
    fn caller_is_told_status_and_message() {
        let failure = Failure::new(422, "a \"quoted\" text").because("a cause");
        assert_eq!(failure.to_string(), "a \"quoted\" text: a cause");
        let reply = failure.to_reply();
        assert_eq!(
            (reply.status_code(), reply.body()),
            (Status::UNPROCESSABLE_ENTITY, &br#"{"error":"a \"quoted\" text"}"#[..])
        );
    }

    #[test]
    #[should_panic(expected = "200 to 599")]
    fn impossible_status_panics() {
        let _ = Failure::new(199, "");
    }
}
