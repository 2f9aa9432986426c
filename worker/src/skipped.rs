//! Requests that get no reply, and why.

use kafka::Received;
use shared::{complaints::Complaints, error_chain::Chain, message::BadJson, wire::Malformed};
use tracing::warn;

use crate::{destinations::Refused, excerpt::Excerpt};

/// Why a request is skipped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Skipped {
    /// The contract does not know its value.
    #[error("its value is not a JSON object with the strings id, name and value")]
    Value(#[source] BadJson),
    /// Its headers do not say where the reply goes.
    #[error("its headers are malformed")]
    Headers(#[source] Malformed),
    /// They do, but the reply cannot go there.
    #[error("its reply cannot go to {place}")]
    Place {
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
            Self::Place {
                cause: Refused::Missing,
                ..
            } => "no_such_place",
            Self::Place {
                cause: Refused::Unknown,
                ..
            } => "place_unknown",
            Self::Place {
                cause: Refused::Full, ..
            } => "place_full",
        }
    }

    /// Logs it, unless there was a complaint just now.
    pub(crate) fn complain(&self, complaints: &mut Complaints, record: &Received) {
        if let Some(held_back) = complaints.raise() {
            warn!(
                offset = record.offset(),
                value = %Excerpt(record.value().unwrap_or_default()),
                cause = %Chain(self),
                held_back,
                "skipping a request",
            );
        }
    }
}
