//! Requests that get no reply, and why.

use kafka::ConsumedRecord;
use shared::{error_chain::ErrorChain, headers::MalformedHeader, log_limiter::LogLimiter, message::BadJson};
use tracing::warn;

use crate::{reply_producers::Refused, truncated::Truncated};

/// Why a request is skipped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Skipped {
    /// The contract does not know its value.
    #[error("its value is not a JSON object with the strings id, name and value")]
    Value(#[source] BadJson),
    /// Its headers do not say where the reply goes.
    #[error("its headers are malformed")]
    Headers(#[source] MalformedHeader),
    /// They do, but the reply cannot go there.
    #[error("its reply cannot go to {place}")]
    ReplyProducer {
        /// Topic and partition.
        place: String,
        /// Why not.
        #[source]
        cause: Refused,
    },
}

// === impl Skipped ===

impl Skipped {
    /// For the metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Value(_) => "bad_value",
            Self::Headers(_) => "bad_headers",
            Self::ReplyProducer {
                cause: Refused::Missing,
                ..
            } => "no_such_place",
            Self::ReplyProducer {
                cause: Refused::Unknown,
                ..
            } => "place_unknown",
            Self::ReplyProducer {
                cause: Refused::Full, ..
            } => "place_full",
        }
    }

    /// Logs it, unless there was a complaint just now.
    pub(crate) fn log(&self, log_limiter: &mut LogLimiter, record: &ConsumedRecord) {
        if let Some(suppressed) = log_limiter.allow() {
            warn!(
                offset = record.offset(),
                value = %Truncated(record.value().unwrap_or_default()),
                cause = %ErrorChain(self),
                suppressed,
                "skipping a request",
            );
        }
    }
}
