//! Creates missing topics.

use std::time::Duration;

use kafka_protocol::{
    error::ResponseError,
    messages::{CreateTopicsRequest, TopicName, create_topics_request::CreatableTopic},
};
use tokio::time::{Instant, sleep};

use super::{Cluster, address, code_error, metadata, text};
use crate::{
    connection::{CONNECT_TIMEOUT, Connection},
    error::{Error, Failure},
};

/// Bound on the creation of a topic.
const CREATE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bound on the time until the brokers know of a topic that was just created.
const CREATED_TIMEOUT: Duration = Duration::from_secs(2);
const CREATED_POLL: Duration = Duration::from_millis(20);

impl Cluster {
    /// Whether it was missing, and is created.
    pub(super) async fn create_if_missing(&self, connection: &mut Connection, topic: &str) -> Result<bool, Error> {
        match self.describe(connection, topic, "Describe").await {
            Err(Error::TopicMissing(_)) => {}
            // Whether it exists cannot be seen; who writes or reads will say.
            Ok(_) | Err(Error::TopicDenied { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        let is_created = self.create(connection, topic).await?;
        self.wait_until_described(connection, topic).await?;
        Ok(is_created)
    }

    /// Waits until this broker describes a topic that exists: until then, consumers and producers would log it as missing.
    async fn wait_until_described(&self, connection: &mut Connection, topic: &str) -> Result<(), Error> {
        let begun = Instant::now();
        loop {
            match self.describe(connection, topic, "Describe").await {
                Err(Error::TopicMissing(_)) if begun.elapsed() < CREATED_TIMEOUT => sleep(CREATED_POLL).await,
                // Then those that use the topic say that it is missing.
                Ok(_) | Err(Error::TopicMissing(_) | Error::TopicDenied { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Creates a topic, at the controller. Not `true` if it exists meanwhile.
    async fn create(&self, connection: &mut Connection, topic: &str) -> Result<bool, Error> {
        let controller = metadata(connection, &[topic]).await?;
        let controller = controller
            .brokers
            .iter()
            .find(|broker| broker.node_id == controller.controller_id);
        let controller = controller.map(|broker| address(&broker.host, broker.port));
        let mut other;
        let connection = match controller {
            Some(address) if *address != **connection.broker() => {
                other = Connection::open(&address, &self.client, CONNECT_TIMEOUT).await?;
                &mut other
            }
            _ => connection,
        };
        // One partition, and the broker's own default of replicas (-1, since version 4).
        let creatable = CreatableTopic::default()
            .with_name(TopicName(text(topic)))
            .with_num_partitions(1)
            .with_replication_factor(-1);
        let timeout_ms = i32::try_from(CREATE_TIMEOUT.as_millis()).unwrap_or(i32::MAX);
        let request = CreateTopicsRequest::default()
            .with_topics(vec![creatable])
            .with_timeout_ms(timeout_ms);
        let response = connection.call(CREATE_TIMEOUT, request).await?;
        let Some(created) = response.topics.first() else {
            return Err(connection.error("CreateTopics", Failure::Malformed("the topic is missing".into())));
        };
        match ResponseError::try_from_code(created.error_code) {
            None => Ok(true),
            Some(ResponseError::TopicAlreadyExists) => Ok(false),
            Some(ResponseError::TopicAuthorizationFailed | ResponseError::ClusterAuthorizationFailed) => {
                Err(Error::CreateDenied {
                    topic: topic.to_owned(),
                    user: self.user(),
                })
            }
            Some(code) => {
                let message = created.error_message.as_ref();
                Err(code_error(connection, "CreateTopics", code, message))
            }
        }
    }
}
