//! What a call to Kafka can come to, sorted by what the caller does about it.

use std::{error::Error as StdError, time::Duration};

use rskafka::client::error::{Error as ClientError, ProtocolError, RequestError};

/// Why a call to Kafka failed. The client's own error, where there is one, is the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No answer in time: what became of the call is unknown, and its connection is not to be used again.
    #[error("no answer from Kafka within {0:?}")]
    TimedOut(Duration),
    /// The cluster does not list the topic.
    #[error("topic {0:?} does not exist")]
    TopicMissing(String),
    /// The topic has no such partition.
    #[error("topic {topic:?} has no partition {partition}")]
    PartitionMissing {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: i32,
    },
    /// The offset lies before the start or behind the end of the log.
    #[error("the offset is outside the log")]
    OutOfRange,
    /// Something in the answer cannot be decoded; asking again gets the same answer.
    #[error("the batch cannot be decoded")]
    Undecodable(#[source] Source),
    /// The broker will never take these records.
    #[error("the broker refuses the records")]
    Refused(#[source] Source),
    /// Anything else: worth another attempt on a new connection.
    #[error("the call to Kafka failed")]
    Failed(#[source] Source),
}

type Source = Box<dyn StdError + Send + Sync>;

/// The client panicked inside a call.
#[derive(Debug, thiserror::Error)]
#[error("the Kafka client panicked")]
pub(crate) struct Panicked;

// === impl Error ===

impl Error {
    /// Sorts an error of a call about `topic`.
    pub(crate) fn of_call(error: ClientError, topic: &str) -> Self {
        match &error {
            ClientError::ServerError { protocol_error, .. } => match protocol_error {
                ProtocolError::UnknownTopicOrPartition => Self::TopicMissing(topic.to_owned()),
                ProtocolError::OffsetOutOfRange => Self::OutOfRange,
                ProtocolError::MessageTooLarge | ProtocolError::RecordListTooLarge | ProtocolError::InvalidRecord => {
                    Self::Refused(error.into())
                }
                // One whose time has not come (`message.timestamp.after.max.ms`) is taken later: it is our clock or Kafka's.
                _ => Self::Failed(error.into()),
            },
            _ => Self::Failed(error.into()),
        }
    }

    /// Sorts an error of a fetch, where an answer that cannot be read means a record that cannot be read.
    pub(crate) fn of_fetch(error: ClientError, topic: &str) -> Self {
        let undecodable = match &error {
            ClientError::Request(
                RequestError::ReadVersionedError(_) | RequestError::ReadError(_) | RequestError::TooMuchData { .. },
            ) => true,
            // The client has no more than a text for what it does not understand, of metadata too; these are about
            // records.
            ClientError::InvalidResponse(text) => {
                ["Timestamp overflow", "Not a valid timestamp", "Ambiguous timestamp"]
                    .iter()
                    .any(|it| text.starts_with(it))
            }
            _ => false,
        };
        if undecodable {
            Self::Undecodable(error.into())
        } else {
            Self::of_call(error, topic)
        }
    }
}

impl From<Panicked> for Error {
    fn from(panicked: Panicked) -> Self {
        Self::Failed(panicked.into())
    }
}

#[cfg(test)]
mod tests {
    use rskafka::client::error::RequestContext;

    use super::*;

    fn of(protocol_error: ProtocolError) -> Error {
        let error = ClientError::ServerError {
            protocol_error,
            error_message: None,
            request: RequestContext::Topic("t".to_owned()),
            response: None,
            is_virtual: false,
        };
        Error::of_call(error, "t")
    }

    #[test]
    fn what_a_broker_will_never_take_is_refused_and_what_it_may_take_later_is_not() {
        assert!(matches!(of(ProtocolError::InvalidRecord), Error::Refused(_)));
        assert!(matches!(of(ProtocolError::MessageTooLarge), Error::Refused(_)));
        assert!(matches!(of(ProtocolError::InvalidTimestamp), Error::Failed(_)));
        assert!(matches!(of(ProtocolError::NotLeaderOrFollower), Error::Failed(_)));
        assert!(matches!(of(ProtocolError::UnknownTopicOrPartition), Error::TopicMissing(topic) if topic == "t"));
    }
}
