//! Why a request gets no reply: the metric label and the log line of each reason.

use kafka::ConsumedRecord;
use shared::{error_chain::ErrorChain, headers::MalformedHeader, log_limiter::LogLimiter};
use tracing::warn;

use crate::{Failure, reply_producers::Rejected, truncated::Truncated};

/// Why a request is skipped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Skipped {
    /// The handler says that it is no request.
    #[error("{0}")]
    Value(Failure),
    /// Replies may not go where its headers say.
    #[error("replies may not go to the topic {topic:?}: REPLY_TOPICS does not allow it")]
    Refused {
        /// The topic.
        topic: String,
    },
    /// The headers name no valid address of the reply.
    #[error("its headers are malformed")]
    Headers(#[source] MalformedHeader),
    /// The address of the reply does not take it.
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
            Self::Refused { .. } => "reply_topic_refused",
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
