//! A cluster: the way in, the metadata of named topics, and connections to the brokers that lead their partitions.
//!
//! - Nothing is asked of the cluster as a whole: a cluster of 100,000 partitions costs as much as one of two.
//! - Nothing is created but this process's own topics, where it may, at the first contact. One that is deleted later stays
//!   deleted.
//! - Metadata is asked for when a connection is made, and not kept: a leader that has moved is an error of a call, and the next
//!   connection goes to the new one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use kafka_protocol::{
    error::ResponseError,
    messages::{
        FindCoordinatorRequest, MetadataRequest, MetadataResponse, TopicName, metadata_request::MetadataRequestTopic,
    },
    protocol::StrBytes,
};
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::info;
use uuid::Uuid;

use crate::{
    connection::{CONNECT_TIMEOUT, Client, Connection},
    error::{Error, Failure},
    security::Security,
};

mod creation;
mod description;

pub use self::description::TopicDescription;

/// Bound on the first contact, over all bootstrap brokers.
const BOOTSTRAP_TIMEOUT: Duration = Duration::from_secs(5);

/// Bound on a call for metadata.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);

/// A Kafka cluster.
#[derive(Debug)]
pub struct Cluster {
    client: Client,
    bootstrap: Vec<String>,
    /// Topics that are created where missing.
    own_topics: Vec<String>,
    are_topics_created: AtomicBool,
    /// A connection for short calls, while none is under way.
    idle: Mutex<Option<Connection>>,
    /// Which bootstrap broker is asked next.
    next: AtomicUsize,
}

/// What a user wants to do with a topic, as ACLs name it (`AclOperation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Read = 3,
    Write = 4,
}

/// A topic, as a broker describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Topic {
    /// By partition.
    leaders: BTreeMap<i32, Leader>,
    /// A bit for each operation that is allowed to us.
    allowed: Option<u32>,
}

/// The leader of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Leader {
    /// `None` while there is none.
    address: Option<String>,
    epoch: i32,
}

// === impl Cluster ===

impl Cluster {
    /// A cluster to be reached through `bootstrap` (`host:port` each) that should have `own_topics`. No connection yet.
    #[must_use]
    pub fn new(client_id: &str, bootstrap: Vec<String>, security: Security, own_topics: Vec<String>) -> Self {
        Self {
            client: Client {
                id: client_id.into(),
                security,
            },
            bootstrap,
            own_topics,
            are_topics_created: AtomicBool::new(false),
            idle: Mutex::new(None),
            next: AtomicUsize::new(0),
        }
    }

    /// The partitions of a topic: one bounded attempt, which creates nothing.
    ///
    /// # Errors
    /// [`Error::TopicMissing`] or [`Error::TopicDenied`]; any other is worth another attempt.
    pub async fn partitions(&self, topic: &str) -> Result<BTreeSet<i32>, Error> {
        let mut connection = self.connection().await?;
        let topic = self.describe(&mut connection, topic, "Describe").await?;
        self.give_back(connection);
        Ok(topic.leaders.into_keys().collect())
    }

    /// The names of those of `topics` that exist, by id: one bounded attempt, which creates nothing.
    ///
    /// # Errors
    /// Worth another attempt.
    pub(crate) async fn topic_names(&self, topics: &[String]) -> Result<BTreeMap<Uuid, Arc<str>>, Error> {
        let mut connection = self.connection().await?;
        let response = metadata(&mut connection, topics).await?;
        self.give_back(connection);
        let existing = response.topics.into_iter().filter(|topic| topic.error_code == 0);
        Ok(existing
            .filter_map(|topic| Some((topic.topic_id, Arc::from(topic.name.as_ref()?.as_str()))))
            .collect())
    }

    /// A new connection to the leader of a partition, for one role, and the leader's epoch: one bounded attempt.
    ///
    /// # Errors
    /// When it is missing, when we may not do that with it, or when a connection fails.
    pub(crate) async fn leader(
        &self,
        topic: &str,
        partition: i32,
        operation: Operation,
    ) -> Result<(Connection, i32), Error> {
        let mut connection = self.connection().await?;
        let described = self.describe(&mut connection, topic, operation.name()).await?;
        if !described.allows(operation) {
            return Err(self.denied(topic, operation.name(), false));
        }
        let Some(leader) = described.leaders.get(&partition) else {
            return Err(Error::PartitionMissing {
                topic: topic.to_owned(),
                partition,
            });
        };
        let Some(address) = &leader.address else {
            return Err(Error::LeaderMissing {
                topic: topic.to_owned(),
                partition,
            });
        };
        // With one broker, the way in is the leader.
        if **connection.broker() == **address {
            return Ok((connection, leader.epoch));
        }
        self.give_back(connection);
        let connection = Connection::open(address, &self.client, CONNECT_TIMEOUT).await?;
        Ok((connection, leader.epoch))
    }

    /// A new connection to the coordinator of a group: one bounded attempt.
    ///
    /// # Errors
    /// The code that the broker gave instead is in [`Error::Code`].
    pub(crate) async fn coordinator(&self, group: &str) -> Result<Connection, Error> {
        let mut connection = self.connection().await?;
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]);
        let response = connection.call(METADATA_TIMEOUT, request).await?;
        let found = response.coordinators.first();
        let missing = || connection.error("FindCoordinator", Failure::Malformed("it names no coordinator".into()));
        let found = found.ok_or_else(missing)?;
        if let Some(code) = ResponseError::try_from_code(found.error_code) {
            return Err(code_error(
                &connection,
                "FindCoordinator",
                code,
                found.error_message.as_ref(),
            ));
        }
        let address = address(&found.host, found.port);
        if **connection.broker() == *address {
            return Ok(connection);
        }
        self.give_back(connection);
        Connection::open(&address, &self.client, CONNECT_TIMEOUT).await
    }

    /// A connection for short calls. It is given back after the last one, or dropped.
    async fn connection(&self) -> Result<Connection, Error> {
        let idle = self.idle.lock().take();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.bootstrap().await?,
        };
        if !self.are_topics_created.load(Ordering::Acquire) {
            for topic in &self.own_topics {
                if self.create_if_missing(&mut connection, topic).await? {
                    info!(topic, "created");
                }
            }
            self.are_topics_created.store(true, Ordering::Release);
        }
        Ok(connection)
    }

    fn give_back(&self, connection: Connection) {
        if connection.is_usable() {
            *self.idle.lock() = Some(connection);
        }
    }

    /// Connects to the first bootstrap broker that lets us in, beginning with another one each time. Of several errors the one
    /// that says most is given.
    async fn bootstrap(&self) -> Result<Connection, Error> {
        let begun = Instant::now();
        let count = self.bootstrap.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut failed: Option<Error> = None;
        let brokers = self.bootstrap.iter().cycle().skip(first % count.max(1)).take(count);
        for (index, broker) in brokers.enumerate() {
            // Each has its share of the time that is left: a broker that is silent must not use up that of the others.
            let left = BOOTSTRAP_TIMEOUT.saturating_sub(begun.elapsed());
            let share = left / u32::try_from(count - index).unwrap_or(u32::MAX);
            match Connection::open(broker, &self.client, share.min(CONNECT_TIMEOUT)).await {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    let says_more = |failed: &Error| rank(&error) > rank(failed);
                    if failed.as_ref().is_none_or(says_more) {
                        failed = Some(error);
                    }
                }
            }
        }
        let none = || Error::new(&Arc::from("KAFKA_BROKERS"), "connecting", Failure::Address);
        Err(failed.unwrap_or_else(none))
    }

    /// What a broker says about a topic, to a user that wants to do `operation` with it.
    async fn describe(
        &self,
        connection: &mut Connection,
        topic: &str,
        operation: &'static str,
    ) -> Result<Topic, Error> {
        let response = metadata(connection, &[topic]).await?;
        let brokers: BTreeMap<_, _> = response
            .brokers
            .iter()
            .map(|broker| (broker.node_id, address(&broker.host, broker.port)))
            .collect();
        let Some(found) = response.topics.first() else {
            return Err(Error::TopicMissing(topic.to_owned()));
        };
        match ResponseError::try_from_code(found.error_code) {
            None => {}
            Some(ResponseError::UnknownTopicOrPartition) => return Err(Error::TopicMissing(topic.to_owned())),
            Some(ResponseError::TopicAuthorizationFailed) => return Err(self.denied(topic, operation, true)),
            Some(code) => return Err(code_error(connection, "Metadata", code, None)),
        }
        let leaders = found.partitions.iter().map(|partition| {
            // Without a leader its id is -1, which no broker has.
            let leader = Leader {
                address: brokers.get(&partition.leader_id).cloned(),
                epoch: partition.leader_epoch,
            };
            (partition.partition_index, leader)
        });
        Ok(Topic {
            leaders: leaders.collect(),
            // A broker that does not say has the smallest number there.
            allowed: u32::try_from(found.topic_authorized_operations).ok(),
        })
    }

    /// Who we are to the brokers, as far as this process knows.
    pub(crate) fn user(&self) -> String {
        self.client.security.user()
    }

    fn denied(&self, topic: &str, operation: &'static str, is_hidden: bool) -> Error {
        Error::TopicDenied {
            topic: topic.to_owned(),
            operation,
            user: self.user(),
            is_hidden,
        }
    }
}

async fn metadata(connection: &mut Connection, topics: &[impl AsRef<str>]) -> Result<MetadataResponse, Error> {
    let named = topics
        .iter()
        .map(|topic| MetadataRequestTopic::default().with_name(Some(TopicName(text(topic.as_ref())))));
    let request = MetadataRequest::default()
        .with_topics(Some(named.collect()))
        .with_allow_auto_topic_creation(false)
        .with_include_topic_authorized_operations(true);
    connection.call(METADATA_TIMEOUT, request).await
}

/// How much an error says about what is wrong.
fn rank(error: &Error) -> u8 {
    match error {
        error if error.is_login() => 2,
        error if error.is_timeout() => 0,
        _ => 1,
    }
}

fn code_error(connection: &Connection, api: &'static str, code: ResponseError, message: Option<&StrBytes>) -> Error {
    Error::Code {
        broker: Arc::clone(connection.broker()),
        api,
        code,
        message: message.map(ToString::to_string),
    }
}

/// An address as [`Connection::open`] takes it.
fn address(host: &str, port: i32) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

// === impl Topic ===

impl Topic {
    fn allows(&self, operation: Operation) -> bool {
        self.allowed
            .is_none_or(|allowed| allowed & (1 << operation as u32) != 0)
    }
}

// === impl Operation ===

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Read => "Read",
            Self::Write => "Write",
        }
    }
}

#[cfg(test)]
mod tests;
