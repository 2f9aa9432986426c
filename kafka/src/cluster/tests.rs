use kafka_protocol::messages::{
    ApiKey, CreateTopicsResponse, create_topics_response::CreatableTopicResult,
    metadata_response::MetadataResponseTopic,
};

use super::*;
use crate::scripted_broker::{Reaction, ReceivedRequest, ScriptedBroker, versions};

const MISSING: Option<ResponseError> = Some(ResponseError::UnknownTopicOrPartition);
const DENIED: Option<ResponseError> = Some(ResponseError::TopicAuthorizationFailed);

/// How often the metadata are without a topic after its creation.
const LATE: usize = 3;

/// A broker that answers metadata with a code for the topic, and `CreateTopics` with these. A topic that was missing is there
/// some answers after `CreateTopics`.
async fn broker(topic: Option<ResponseError>, created: &'static [Option<ResponseError>]) -> ScriptedBroker {
    let code = |error: Option<ResponseError>| error.map_or(0, |error| error.code());
    let mut left = usize::MAX;
    ScriptedBroker::new(move |request: &ReceivedRequest, _| match request.key {
        ApiKey::ApiVersions => request.answer(&versions(&[ApiKey::Metadata, ApiKey::CreateTopics])),
        ApiKey::Metadata => {
            let topic = topic.filter(|_| left > 0);
            left = left.saturating_sub(1);
            let topic = MetadataResponseTopic::default()
                .with_name(Some(TopicName(text("ping"))))
                .with_error_code(code(topic));
            request.answer(&MetadataResponse::default().with_topics(vec![topic]))
        }
        ApiKey::CreateTopics => {
            left = LATE;
            let created = created
                .iter()
                .map(|created| CreatableTopicResult::default().with_error_code(code(*created)));
            request.answer(&CreateTopicsResponse::default().with_topics(created.collect()))
        }
        _ => Reaction::Silence,
    })
    .await
}

/// Creates the topic if it is missing.
async fn create(broker: &ScriptedBroker) -> Result<bool, Error> {
    let cluster = broker.cluster();
    let mut connection = cluster.connection().await.unwrap();
    cluster.create_if_missing(&mut connection, "ping").await
}

#[tokio::test]
async fn topic_is_created_only_if_it_is_missing() {
    for (topic, created, is_created) in [
        (MISSING, &[None][..], true),
        (MISSING, &[Some(ResponseError::TopicAlreadyExists)], false),
        (None, &[], false),
        (DENIED, &[], false),
    ] {
        let broker = broker(topic, created).await;
        assert_eq!(create(&broker).await.unwrap(), is_created, "{topic:?} {created:?}");
        let calls = broker.requests(ApiKey::CreateTopics).len();
        assert_eq!(calls, created.len(), "{topic:?} {created:?}");
    }
}

#[tokio::test]
async fn created_topic_is_described_before_it_is_used() {
    let broker = broker(MISSING, &[None]).await;
    assert!(create(&broker).await.unwrap());
    // Before the creation one for the topic and one for the controller; then until the topic is there.
    assert_eq!(broker.requests(ApiKey::Metadata).len(), 2 + LATE + 1);
}

#[tokio::test]
async fn creation_that_fails_says_why() {
    for (created, expected) in [
        (
            &[DENIED][..],
            r#"topic "ping" does not exist, and this client may not Create it: create it, or allow Create on it to the user"#,
        ),
        (
            &[Some(ResponseError::ClusterAuthorizationFailed)],
            r#"topic "ping" does not exist, and this client may not Create it"#,
        ),
        (&[Some(ResponseError::PolicyViolation)], "answered CreateTopics with"),
        (
            &[],
            "answered CreateTopics with what cannot be understood: the topic is missing",
        ),
    ] {
        let line = create(&broker(MISSING, created).await).await.unwrap_err().to_string();
        assert!(line.contains(expected), "{line}");
    }
}

#[tokio::test]
async fn missing_topic_and_missing_right_are_told_apart() {
    let denied = broker(DENIED, &[]).await;
    let error = denied.cluster().leader("ping", 0, Operation::Write).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "this client may not Write topic \"ping\": allow Write on it to the user, which includes Describe; without it the \
         brokers do not say whether the topic exists"
    );
    let error = denied.cluster().partitions("ping").await.unwrap_err().to_string();
    assert!(
        error.starts_with(r#"this client may not Describe topic "ping""#),
        "{error}"
    );
    let missing = broker(MISSING, &[]).await;
    let error = missing.cluster().leader("ping", 0, Operation::Write).await.unwrap_err();
    assert_eq!(error.to_string(), r#"topic "ping" does not exist"#);
}
