//! What is to happen to one call beside its answer. Without the feature `faults` that is always nothing.

use std::time::Duration;

use kafka_protocol::error::ResponseError;

/// How a call ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "faults"),
    allow(dead_code, reason = "only faults end a call otherwise")
)]
pub(crate) enum Ending {
    /// With its answer.
    #[default]
    Answer,
    /// The connection is closed, and nothing was done.
    DropBefore,
    /// It is done, and the connection is closed instead of an answer.
    DropAfter,
    /// It is done, and the connection says nothing ever again.
    Mute,
}

/// What is staged for one call.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Staged {
    /// How it ends.
    pub(crate) ending: Ending,
    /// Every part of it that can fail fails with this, and does nothing.
    pub(crate) refusal: Option<ResponseError>,
    /// The throttle time its answer names, in full ms. The answer itself is not late (KIP-219).
    pub(crate) throttle: Duration,
    /// How long its answer is held back.
    pub(crate) delay: Duration,
}
