//! Errors of calls to a group coordinator, by what the caller does about them.

use std::{error::Error as StdError, io, time::Duration};

use kafka_protocol::error::ResponseError;

/// Why a call failed. The error of the network or the broker is the source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer in time. The outcome of the call is unknown.
    #[error("no answer from the group coordinator within {0:?}")]
    TimedOut(Duration),
    /// No connection, or the connection broke.
    #[error("the broker cannot be reached")]
    Unreachable(#[source] io::Error),
    /// The answer does not match the request, or is not Kafka's protocol.
    #[error("the answer is invalid")]
    InvalidResponse(#[source] Source),
    /// There is no coordinator at the moment, or it has moved to another broker: worth another attempt.
    #[error("the group coordinator is not available")]
    Unavailable(#[source] ResponseError),
    /// The broker does not support groups by KIP-848.
    #[error(
        "the broker cannot be asked for partitions: WORKER_GROUP needs Kafka 4.0 or later with group.version 1 or \
         later; without it, name partitions in PARTITIONS"
    )]
    UnsupportedGroups,
    /// The broker does not support any version of a call that this client does.
    #[error("the broker is too old: it has no {0}")]
    UnsupportedVersion(&'static str),
    /// The group does not have this member (any more): it owns nothing and has to join again. Also for a commit without a
    /// member in a group that has members.
    #[error("this worker is no member of the group")]
    Fenced(#[source] ResponseError),
    /// The member's epoch is not the newest. Worth another attempt after the next heartbeat.
    #[error("the epoch of the member is not the newest")]
    Stale,
    /// The broker does not allow this client to use the group or its topic.
    #[error("the broker refuses the group {group:?} or its topic: allow it, or use PARTITIONS without WORKER_GROUP")]
    Refused {
        /// The group.
        group: String,
        /// The broker's error code.
        #[source]
        code: ResponseError,
    },
    /// Any other error code.
    #[error("the group coordinator answered with an error")]
    ErrorCode(#[source] ResponseError),
}

type Source = Box<dyn StdError + Send + Sync>;

/// Why an answer is invalid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidResponse {
    #[error("an answer cannot be {0} bytes long")]
    Length(i32),
    #[error("it answers call {found}, not {asked}")]
    Correlation { asked: i32, found: i32 },
    #[error("{0} bytes are left over")]
    LeftOver(usize),
    #[error("{0} is missing or impossible")]
    Field(&'static str),
}

// === impl Error ===

impl Error {
    /// Classifies an error code about `group` as a whole.
    pub(crate) fn of_code(code: ResponseError, group: &str) -> Self {
        match code {
            ResponseError::NotCoordinator
            | ResponseError::CoordinatorNotAvailable
            | ResponseError::CoordinatorLoadInProgress => Self::Unavailable(code),
            ResponseError::FencedMemberEpoch | ResponseError::UnknownMemberId => Self::Fenced(code),
            ResponseError::StaleMemberEpoch => Self::Stale,
            ResponseError::GroupAuthorizationFailed
            | ResponseError::TopicAuthorizationFailed
            | ResponseError::InvalidGroupId
            | ResponseError::GroupMaxSizeReached => Self::Refused {
                group: group.to_owned(),
                code,
            },
            code => Self::ErrorCode(code),
        }
    }

    /// Whether the broker is not the coordinator of the group (any more).
    pub(crate) fn is_not_coordinator(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(ResponseError::NotCoordinator | ResponseError::CoordinatorNotAvailable)
        )
    }

    pub(crate) fn invalid_response(cause: impl Into<Source>) -> Self {
        Self::InvalidResponse(cause.into())
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Unreachable(error)
    }
}

impl From<InvalidResponse> for Error {
    fn from(invalid: InvalidResponse) -> Self {
        Self::invalid_response(invalid)
    }
}
