//! What the cluster says of a topic, for a user who checks a configuration.

use kafka_protocol::messages::{DescribeConfigsRequest, describe_configs_request::DescribeConfigsResource};

use super::{Cluster, METADATA_TIMEOUT, Operation, text};
use crate::error::Error;

/// `ConfigResource.Type.TOPIC`.
const TOPIC_RESOURCE: i8 = 2;

/// A topic, as the cluster describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicDescription {
    /// The number of its partitions.
    pub partitions: usize,
    /// Whether this user may write to it.
    pub can_write: bool,
    /// Whether this user may read it.
    pub can_read: bool,
    /// `max.message.bytes`: the largest batch that it takes. `None` when this user may not see it.
    pub max_message_bytes: Option<usize>,
}

// === impl Cluster ===

impl Cluster {
    /// Describes a topic: one bounded attempt.
    ///
    /// # Errors
    /// [`Error::TopicMissing`] or [`Error::TopicDenied`]; any other is worth another attempt.
    pub async fn describe_topic(&self, name: &str) -> Result<TopicDescription, Error> {
        let mut connection = self.connection().await?;
        let topic = self.describe(&mut connection, name, "Describe").await?;
        let resource = DescribeConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(text(name))
            .with_configuration_keys(Some(vec![text("max.message.bytes")]));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        // Without the right, or from a broker that does not have the call, the value is unknown.
        let response = connection.call(METADATA_TIMEOUT, request).await.ok();
        let configs = response
            .into_iter()
            .flat_map(|response| response.results)
            .flat_map(|result| result.configs);
        let mut values = configs.filter_map(|config| config.value?.parse().ok());
        let description = TopicDescription {
            partitions: topic.leaders.len(),
            can_write: topic.allows(Operation::Write),
            can_read: topic.allows(Operation::Read),
            max_message_bytes: values.next(),
        };
        self.give_back(connection);
        Ok(description)
    }
}
