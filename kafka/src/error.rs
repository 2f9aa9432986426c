//! What a call to Kafka can fail with, sorted by what its caller does about it.

use std::{error::Error as StdError, fmt, io, sync::Arc, time::Duration};

use kafka_protocol::error::ResponseError;

use self::advice::{first_answer_advice, is_end, tls_advice, tls_cause};
use crate::{
    security::{CredentialError, Security},
    transport::NotKafka,
};

mod advice;

type Source = Box<dyn StdError + Send + Sync>;

/// Why a call to Kafka failed. The cause is the source, or a part of the text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection failed, or could not be made: worth another attempt on a new one. Whether the call was executed is
    /// unknown, unless it was `is_before_request`.
    #[error(transparent)]
    Connection(ConnectionError),
    /// The cluster does not have the topic.
    #[error("topic {0:?} does not exist")]
    TopicMissing(String),
    /// The brokers do not let this user do that.
    #[error("{user} may not {operation} topic {topic:?}: allow {operation} on it to the user{}", hidden(*is_hidden, operation))]
    TopicDenied {
        /// The topic.
        topic: String,
        /// The operation, as ACLs name it.
        operation: &'static str,
        /// The user, as far as this process knows.
        user: String,
        /// The user may not describe the topic either, and brokers do not say to such a user whether a topic exists.
        is_hidden: bool,
    },
    /// The cluster does not have a topic of ours, and does not let this user create it.
    #[error(
        "topic {topic:?} does not exist, and {user} may not Create it: create it, or allow Create on it to the user"
    )]
    CreateDenied {
        /// The topic.
        topic: String,
        /// The user, as far as this process knows.
        user: String,
    },
    /// The topic has no such partition.
    #[error("topic {topic:?} has no partition {partition}")]
    PartitionMissing {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: i32,
    },
    /// No broker leads the partition at the moment.
    #[error("partition {partition} of topic {topic:?} has no leader")]
    LeaderMissing {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The broker asked is not the leader any more: the cluster's metadata says which one is.
    #[error("{0} does not lead the partition any more")]
    NotLeader(Arc<str>),
    /// The offset lies before the start or behind the end of the log.
    #[error("the offset is outside the log")]
    OutOfRange,
    /// The batch is larger than the broker takes.
    #[error("{broker} refuses the batch: it is larger than max.message.bytes allows")]
    TooLarge {
        /// The broker.
        broker: Arc<str>,
    },
    /// The broker will never take these records.
    #[error("{broker} refuses the records: {code}{}", in_brackets(message))]
    Refused {
        /// The broker.
        broker: Arc<str>,
        /// What it said.
        code: ResponseError,
        /// What it said beside.
        message: Option<String>,
    },
    /// Another code: worth another attempt.
    #[error("{broker} answered {api} with {code}{}", in_brackets(message))]
    Code {
        /// The broker.
        broker: Arc<str>,
        /// The call.
        api: &'static str,
        /// What it said.
        code: ResponseError,
        /// What it said beside.
        message: Option<String>,
    },
}

/// A connection to a broker failed, or could not be made.
#[derive(Debug)]
pub struct ConnectionError {
    broker: Arc<str>,
    api: &'static str,
    failure: Failure,
}

/// What happened to a connection.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The address cannot be read.
    Address,
    /// There is no such host, or it does not take the connection.
    Unreachable(io::Error),
    /// TLS did not come about.
    Tls(io::Error),
    /// A file of certificates or credentials cannot be used.
    Credentials(CredentialError),
    /// The broker does not have the mechanism of the login.
    Mechanism {
        code: ResponseError,
        mechanism: &'static str,
        offered: String,
    },
    /// The broker refused the login of a user.
    Login {
        code: ResponseError,
        user: Option<String>,
        message: Option<String>,
    },
    /// The peer closed the connection, or the network did.
    Disconnected { text: String, advice: &'static str },
    /// No answer in time.
    TimedOut { limit: Duration, is_first: bool },
    /// The broker has no version of the call that is spoken here.
    TooOld(&'static str),
    /// The answer cannot be understood.
    Malformed(Source),
    /// The client panicked.
    Panicked,
    /// An earlier call failed.
    Unusable,
    /// The peer had closed the connection before the call.
    Closed,
}

// === impl Error ===

impl Error {
    /// An error of the call `api` to `broker`.
    pub(crate) fn new(broker: &Arc<str>, api: &'static str, failure: Failure) -> Self {
        Self::Connection(ConnectionError {
            broker: Arc::clone(broker),
            api,
            failure,
        })
    }

    /// Whether nothing of the call was written: the broker has surely not executed it.
    pub(crate) fn is_before_request(&self) -> bool {
        match self {
            Self::Connection(ConnectionError { failure, .. }) => !matches!(
                failure,
                Failure::Disconnected { .. } | Failure::TimedOut { .. } | Failure::Malformed(_) | Failure::Panicked
            ),
            _ => false,
        }
    }

    /// Whether the log has surely nothing of a batch that failed like this.
    pub(crate) fn is_not_written(&self) -> bool {
        match self {
            Self::Connection(_) => self.is_before_request(),
            Self::Code { code, .. } => matches!(
                code,
                ResponseError::NotEnoughReplicas | ResponseError::LeaderNotAvailable | ResponseError::KafkaStorageError
            ),
            _ => true,
        }
    }

    /// Whether the broker refused the login: to ask again soon may lock the user out.
    pub(crate) fn is_login(&self) -> bool {
        matches!(
            self,
            Self::Connection(ConnectionError {
                failure: Failure::Login { .. } | Failure::Mechanism { .. } | Failure::Credentials(_),
                ..
            })
        )
    }

    /// Whether the broker has no version of the call that is spoken here.
    pub(crate) fn is_too_old(&self) -> bool {
        matches!(
            self,
            Self::Connection(ConnectionError {
                failure: Failure::TooOld(_),
                ..
            })
        )
    }

    /// Whether there was no answer in time, which says the least of all causes.
    pub(crate) fn is_timeout(&self) -> bool {
        matches!(
            self,
            Self::Connection(ConnectionError {
                failure: Failure::TimedOut { .. },
                ..
            })
        )
    }
}

// === impl ConnectionError ===

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { broker, api, failure } = self;
        match failure {
            Failure::Address => write!(f, "{broker} is no address: it must be host:port"),
            Failure::Unreachable(error) => write!(
                f,
                "{broker} cannot be reached: {error}; check KAFKA_BROKERS, and advertised.listeners of the brokers"
            ),
            Failure::Tls(error) => write!(f, "TLS with {broker} failed: {}{}", tls_cause(error), tls_advice(error)),
            Failure::Credentials(error) => write!(f, "no login to {broker}: {error}"),
            Failure::Mechanism {
                code,
                mechanism,
                offered,
            } => match code {
                ResponseError::IllegalSaslState => write!(
                    f,
                    "{code} for {api} at {broker}: the listener has no login; set KAFKA_SECURITY_PROTOCOL to PLAINTEXT or SSL"
                ),
                _ => write!(
                    f,
                    "{code} for {mechanism} at {broker}: set KAFKA_SASL_MECHANISM to one that it has: {offered}"
                ),
            },
            Failure::Login { code, user, message } => {
                let message = message.as_deref().unwrap_or("no reason given");
                match user {
                    Some(user) => write!(
                        f,
                        "{code} for user {user} at {broker}: {message}; check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
                    ),
                    None => write!(
                        f,
                        "{code} for a token at {broker}: {message}; check KAFKA_SASL_OAUTHBEARER_TOKEN_FILE"
                    ),
                }
            }
            Failure::Disconnected { text, advice } => write!(f, "{broker} {text} ({api}){advice}"),
            Failure::TimedOut { limit, is_first: true } => write!(
                f,
                "{broker} did not answer within {limit:?} ({api}): is it a Kafka broker, and does KAFKA_SECURITY_PROTOCOL fit?"
            ),
            Failure::TimedOut { limit, is_first: false } => write!(f, "{broker} did not answer {api} within {limit:?}"),
            Failure::TooOld(needs) => write!(f, "{broker} is too old: {api} needs {needs}"),
            Failure::Malformed(error) => write!(f, "{broker} answered {api} with what cannot be understood: {error}"),
            Failure::Panicked => write!(f, "the Kafka client panicked in {api} to {broker}"),
            Failure::Closed => write!(f, "{broker} closed the connection before {api}"),
            Failure::Unusable => write!(f, "the connection to {broker} had failed before {api}"),
        }
    }
}

impl StdError for ConnectionError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.failure {
            Failure::Credentials(error) => error.source(),
            _ => None,
        }
    }
}

// === impl Failure ===

impl Failure {
    /// The connection ended with an I/O error. On the first answer of a connection the port may be of another kind.
    pub(crate) fn disconnected(error: &io::Error, is_first: bool, security: &Security) -> Self {
        let not_kafka = error.get_ref().and_then(|error| error.downcast_ref::<NotKafka>());
        let (text, advice) = match not_kafka {
            Some(NotKafka::Tls) => (
                "answers in TLS".to_owned(),
                ": set KAFKA_SECURITY_PROTOCOL to SSL or SASL_SSL",
            ),
            Some(NotKafka::Http) => ("answers in HTTP".to_owned(), ": check the port in KAFKA_BROKERS"),
            Some(NotKafka::Length(length)) => (
                format!("announces an answer of {length} bytes"),
                ": is it a Kafka broker? check the port in KAFKA_BROKERS",
            ),
            None if is_end(error) && is_first => (
                "closed the connection at the first answer".to_owned(),
                first_answer_advice(security),
            ),
            None if is_end(error) => ("closed the connection".to_owned(), ""),
            None => (format!("ended the connection: {}", tls_cause(error)), tls_advice(error)),
        };
        Self::Disconnected { text, advice }
    }
}

fn hidden(is_hidden: bool, operation: &str) -> &'static str {
    match (is_hidden, operation) {
        (true, "Describe") => "; without it the brokers do not say whether the topic exists",
        (true, _) => ", which includes Describe; without it the brokers do not say whether the topic exists",
        (false, _) => "",
    }
}

fn in_brackets(message: &Option<String>) -> String {
    message
        .as_ref()
        .map(|message| format!(" ({message})"))
        .unwrap_or_default()
}
