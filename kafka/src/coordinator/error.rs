//! What a call to a group coordinator can come to, sorted by what the caller does about it.

use std::{error::Error as StdError, io, time::Duration};

use kafka_protocol::error::ResponseError;

/// Why a call failed. What the network or the broker said, where it said something, is the source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What became of the call is unknown.
    #[error("no answer from the group coordinator within {0:?}")]
    TimedOut(Duration),
    /// No connection, or none any more.
    #[error("the group coordinator cannot be reached")]
    Unreachable(#[source] io::Error),
    /// Not what was asked for, or not Kafka at all.
    #[error("the answer cannot be understood")]
    Garbled(#[source] Source),
    /// There is no coordinator at the moment, or it is another broker by now: worth another attempt.
    #[error("the group coordinator is not available")]
    Unavailable(#[source] ResponseError),
    /// The broker does not have groups that it divides the work for.
    #[error(
        "the broker cannot be asked for partitions: WORKER_GROUP needs Kafka 4.0 or later with group.version 1 or \
         later; without it, name partitions in PARTITIONS"
    )]
    NoGroups,
    /// The broker does not have a version of a call that is spoken here.
    #[error("the broker is too old to keep positions: it has no {0}")]
    TooOld(&'static str),
    /// The group does not know this member (any more): it owns nothing and has to join anew. Also what a commit without
    /// a member gets where the group has members.
    #[error("this worker is no member of the group")]
    Fenced(#[source] ResponseError),
    /// The member's epoch is not the newest: again with the epoch of the next heartbeat.
    #[error("the epoch of the member is not the newest")]
    Stale,
    /// The broker does not allow this group to this client, or its topic.
    #[error("the broker refuses the group {group:?} or its topic: allow it, or use PARTITIONS without WORKER_GROUP")]
    Refused {
        /// The group.
        group: String,
        /// What the broker said.
        #[source]
        code: ResponseError,
    },
    /// Any other code of the broker's.
    #[error("the group coordinator answered with an error")]
    Answered(#[source] ResponseError),
}

type Source = Box<dyn StdError + Send + Sync>;

/// What is wrong with an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidResponse {
    #[error("an answer cannot be {0} bytes long")]
    Length(i32),
    #[error("it answers call {found}, not {asked}")]
    Correlation { asked: i32, found: i32 },
    #[error("{0} bytes are left over")]
    LeftOver(usize),
    #[error("{0} is missing or makes no sense")]
    Field(&'static str),
}

// === impl Error ===

impl Error {
    /// Sorts a code that is about `group` as a whole.
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
            code => Self::Answered(code),
        }
    }

    /// Whether the broker asked is the coordinator no longer.
    pub(crate) fn means_elsewhere(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(ResponseError::NotCoordinator | ResponseError::CoordinatorNotAvailable)
        )
    }

    /// An answer whose bytes are not what was asked for.
    pub(crate) fn garbled(cause: impl Into<Source>) -> Self {
        Self::Garbled(cause.into())
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Unreachable(error)
    }
}

impl From<InvalidResponse> for Error {
    fn from(oddity: InvalidResponse) -> Self {
        Self::garbled(oddity)
    }
}
