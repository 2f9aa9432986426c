//! Why a request gets no reply: the metric label and the log line of each reason.

use kafka::ConsumedRecord;
use shared::{error_chain::ErrorChain, headers::MalformedHeader, log_limiter::LogLimiter, message::BadJson};
use tracing::warn;

use crate::{reply_producers::Rejected, truncated::Truncated};

/// Why a request is skipped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Skipped {
    /// The value does not have the shape that the contract requires.
    #[error("its value is not a JSON object with the strings id, name and value")]
    Value(#[source] BadJson),
    /// The headers name no valid destination of the reply.
    #[error("its headers are malformed")]
    Headers(#[source] MalformedHeader),
    /// The destination of the reply does not take it.
    #[error("its reply cannot go to {partition}")]
    Rejected {
        /// `topic/partition`
        partition: String,
        #[source]
        cause: Rejected,
    },
}

// === impl Skipped ===

impl Skipped {
    /// The value of the metric label `reason`.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Value(_) => "bad_value",
            Self::Headers(_) => "bad_headers",
            Self::Rejected { cause, .. } => match cause {
                Rejected::UnknownPartition => "no_such_place",
                Rejected::NoMetadata => "place_unknown",
                Rejected::BufferFull => "place_full",
            },
        }
    }

    /// Logs the reason, at the rate of `log_limiter`.
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
