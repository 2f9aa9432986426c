//! Looks up the partitions of one topic by name, and never creates the topic.
//!
//! rskafka either lists the whole cluster, or asks for one topic and lets the broker create it.

use std::collections::BTreeSet;

use kafka_protocol::{
    error::ResponseError,
    messages::{MetadataRequest, TopicName, metadata_request::MetadataRequestTopic},
    protocol::StrBytes,
};

use super::{
    coordinator::{Error as CallError, connection::Connection, error::InvalidResponse},
    error::Error,
};

/// Asks `broker` (`host:port`) on a new connection. The caller bounds the time.
///
/// # Errors
/// [`Error::TopicMissing`] if the cluster has no such topic; any other error is worth another attempt.
pub(crate) async fn partitions(broker: &str, client_id: &'static str, topic: &str) -> Result<BTreeSet<i32>, Error> {
    let name = TopicName(StrBytes::from_string(topic.to_owned()));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(name))]))
        .with_allow_auto_topic_creation(false);
    let response = async { Connection::open(broker, client_id).await?.call(&request).await };
    let response = response.await.map_err(failed)?;
    let mut topics = response.topics.into_iter();
    let found = topics
        .find(|found| found.name.as_ref().is_some_and(|name| &***name == topic))
        .ok_or_else(|| failed(InvalidResponse::Field("the topic")))?;
    match ResponseError::try_from_code(found.error_code) {
        None => Ok(found.partitions.iter().map(|found| found.partition_index).collect()),
        Some(ResponseError::UnknownTopicOrPartition | ResponseError::InvalidTopicException) => {
            Err(Error::TopicMissing(topic.to_owned()))
        }
        Some(code) => Err(Error::Failed(code.into())),
    }
}

fn failed(error: impl Into<CallError>) -> Error {
    Error::Failed(error.into().into())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{
        ApiKey, MetadataResponse,
        metadata_response::{MetadataResponsePartition, MetadataResponseTopic},
    };

    use super::*;
    use crate::coordinator::scripted_broker::ScriptedBroker;

    /// A broker that answers for topic `pong` with this error code and these partitions.
    async fn broker(code: i16, partitions: &'static [i32]) -> ScriptedBroker {
        ScriptedBroker::coordinator(move |request| {
            let partitions = partitions
                .iter()
                .map(|partition| MetadataResponsePartition::default().with_partition_index(*partition));
            let topic = MetadataResponseTopic::default()
                .with_name(Some(TopicName(StrBytes::from_static_str("pong"))))
                .with_error_code(code)
                .with_partitions(partitions.collect());
            request.answer(&MetadataResponse::default().with_topics(vec![topic]))
        })
        .await
    }

    #[tokio::test]
    async fn metadata_names_one_topic_and_does_not_create_it() {
        let broker = broker(0, &[2, 0, 1]).await;
        let found = partitions(&broker.addr(), "worker", "pong").await.unwrap();
        assert_eq!(found, [0, 1, 2].into());
        let [received] = &broker.requests(ApiKey::Metadata)[..] else {
            panic!("one request")
        };
        let request: MetadataRequest = received.decode();
        let topics = request.topics.unwrap();
        let names: Vec<_> = topics
            .iter()
            .map(|topic| topic.name.as_ref().unwrap().to_string())
            .collect();
        assert_eq!(names, ["pong"]);
        assert!(!request.allow_auto_topic_creation);
    }

    #[tokio::test]
    async fn unknown_topic_is_missing_and_other_codes_are_failures() {
        for code in [
            ResponseError::UnknownTopicOrPartition,
            ResponseError::InvalidTopicException,
        ] {
            let broker = broker(code.code(), &[]).await;
            let error = partitions(&broker.addr(), "worker", "pong").await.unwrap_err();
            assert!(
                matches!(&error, Error::TopicMissing(topic) if topic == "pong"),
                "{error:?}"
            );
        }
        let broker = broker(ResponseError::LeaderNotAvailable.code(), &[]).await;
        let error = partitions(&broker.addr(), "worker", "pong").await.unwrap_err();
        assert!(matches!(error, Error::Failed(_)), "{error:?}");
    }

    #[tokio::test]
    async fn response_without_the_topic_is_a_failure() {
        let broker = broker(0, &[0]).await;
        let error = partitions(&broker.addr(), "worker", "ping").await.unwrap_err();
        assert!(matches!(error, Error::Failed(_)), "{error:?}");
    }
}
