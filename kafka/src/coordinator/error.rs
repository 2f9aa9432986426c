//! Errors of calls to a group coordinator, by what the caller does about them.

use kafka_protocol::error::ResponseError;

use crate::error::Error as CallError;

/// The number of the heartbeat among the calls.
const CONSUMER_GROUP_HEARTBEAT: i16 = 68;

/// Why a call failed. The error of the network or the broker is the source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection to the coordinator, or it broke, or there was no answer in time. The outcome of the call is
    /// unknown.
    #[error("the group coordinator cannot be reached")]
    Unreachable(#[source] CallError),
    /// The answer does not match the request.
    #[error("in the answer of the group coordinator {0} is missing or impossible")]
    InvalidResponse(&'static str),
    /// There is no coordinator at the moment, or it has moved to another broker: worth another attempt.
    #[error("the group coordinator is not available")]
    Unavailable(#[source] ResponseError),
    /// The broker does not support groups by KIP-848.
    #[error(
        "the broker cannot be asked for partitions: WORKER_GROUP needs Kafka 4.0 or later with group.version 1 or \
         later; without it, name partitions in PARTITIONS"
    )]
    UnsupportedGroups,
    /// The group does not have this member (any more): it owns nothing and has to join again. Also for a commit without a
    /// member in a group that has members.
    #[error("this worker is no member of the group")]
    Fenced(#[source] ResponseError),
    /// The member's epoch is not the newest. Worth another attempt after the next heartbeat.
    #[error("the epoch of the member is not the newest")]
    Stale,
    /// The brokers do not let this user use the group, or the topic of the group.
    #[error("{user} may not Read {resource}: allow Read on it to the user")]
    Denied {
        /// The user, as far as this process knows.
        user: String,
        /// The kind and the name of the resource.
        resource: String,
    },
    /// The broker refuses the group for another reason.
    #[error("the broker refuses the group {group:?}: use another name, or PARTITIONS without WORKER_GROUP")]
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

// === impl Error ===

impl Error {
    /// Classifies a call that failed without an error code.
    pub(crate) fn of_call(error: CallError, api: i16) -> Self {
        if error.is_too_old() && api == CONSUMER_GROUP_HEARTBEAT {
            Self::UnsupportedGroups
        } else {
            Self::Unreachable(error)
        }
    }

    /// Classifies an error code about `group` as a whole.
    pub(crate) fn of_code(code: ResponseError, group: &str) -> Self {
        match code {
            ResponseError::NotCoordinator
            | ResponseError::CoordinatorNotAvailable
            | ResponseError::CoordinatorLoadInProgress => Self::Unavailable(code),
            ResponseError::FencedMemberEpoch | ResponseError::UnknownMemberId => Self::Fenced(code),
            ResponseError::StaleMemberEpoch => Self::Stale,
            ResponseError::InvalidGroupId | ResponseError::GroupMaxSizeReached => Self::Refused {
                group: group.to_owned(),
                code,
            },
            code => Self::ErrorCode(code),
        }
    }

    /// Whether another attempt will fail, too: the broker does not let us, or is too old.
    pub(crate) fn is_lasting(&self) -> bool {
        match self {
            Self::Denied { .. } | Self::Refused { .. } => true,
            Self::Unreachable(error) => error.is_too_old(),
            _ => false,
        }
    }

    /// Whether the broker is not the coordinator of the group (any more).
    pub(crate) fn is_not_coordinator(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(ResponseError::NotCoordinator | ResponseError::CoordinatorNotAvailable)
        )
    }
}
