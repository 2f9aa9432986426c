//! Errors of calls to Kafka, by what the caller does about them.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use rskafka::client::error::{Error as ClientError, ProtocolError, RequestError};

/// Why a call to Kafka failed. The error of the client or the broker is the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No response in time. The outcome of the call is unknown, and its connection must not be used again.
    #[error("no answer from Kafka within {0:?}")]
    TimedOut(Duration),
    /// The cluster has no such topic.
    #[error("topic {0:?} does not exist")]
    TopicMissing(String),
    /// The topic has no such partition.
    #[error("topic {topic:?} has no partition {partition}")]
    PartitionMissing {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The offset is before the start or behind the end of the log.
    #[error("the offset is outside the log")]
    OutOfRange,
    /// Part of the response cannot be decoded. Another attempt would get the same bytes.
    #[error("the batch cannot be decoded")]
    Undecodable(#[source] Source),
    /// The broker will never accept these records.
    #[error("the broker refuses the records")]
    Refused(#[source] Source),
    /// An attempt to bootstrap failed whose result other callers share.
    #[error(transparent)]
    Bootstrap(Arc<Error>),
    /// Any other failure: worth another attempt on a new connection.
    #[error("the call to Kafka failed")]
    Failed(#[source] Source),
}

type Source = Box<dyn StdError + Send + Sync>;

/// rskafka panicked inside a call.
#[derive(Debug, thiserror::Error)]
#[error("the Kafka client panicked")]
pub(crate) struct Panicked;

// === impl Error ===

impl Error {
    /// Classifies an error of a call about `topic`.
    pub(crate) fn of_call(error: ClientError, topic: &str) -> Self {
        match &error {
            ClientError::ServerError { protocol_error, .. } => match protocol_error {
                ProtocolError::UnknownTopicOrPartition => Self::TopicMissing(topic.to_owned()),
                ProtocolError::OffsetOutOfRange => Self::OutOfRange,
                ProtocolError::MessageTooLarge | ProtocolError::RecordListTooLarge | ProtocolError::InvalidRecord => {
                    Self::Refused(error.into())
                }
                // A timestamp in the future (`message.timestamp.after.max.ms`) means clock skew, and is accepted later.
                _ => Self::Failed(error.into()),
            },
            _ => Self::Failed(error.into()),
        }
    }

    /// Classifies an error of a fetch, where a response that cannot be decoded means a record that cannot be decoded.
    pub(crate) fn of_fetch(error: ClientError, topic: &str) -> Self {
        let undecodable = match &error {
            ClientError::Request(
                RequestError::ReadVersionedError(_) | RequestError::ReadError(_) | RequestError::TooMuchData { .. },
            ) => true,
            // rskafka reports anything invalid by text only. These are the texts about records.
            ClientError::InvalidResponse(text) => {
                ["Timestamp overflow", "Not a valid timestamp", "Ambiguous timestamp"]
                    .iter()
                    .any(|prefix| text.starts_with(prefix))
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

    fn classify(protocol_error: ProtocolError) -> Error {
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
    fn only_permanent_produce_errors_are_refused() {
        assert!(matches!(classify(ProtocolError::InvalidRecord), Error::Refused(_)));
        assert!(matches!(classify(ProtocolError::MessageTooLarge), Error::Refused(_)));
        assert!(matches!(classify(ProtocolError::InvalidTimestamp), Error::Failed(_)));
        assert!(matches!(classify(ProtocolError::NotLeaderOrFollower), Error::Failed(_)));
        assert!(matches!(classify(ProtocolError::UnknownTopicOrPartition), Error::TopicMissing(topic) if topic == "t"));
    }
}
