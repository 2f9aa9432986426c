//! `CreateTopics`. Topic configs are accepted and ignored.

use kafka_protocol::{
    error::ResponseError,
    messages::{
        CreateTopicsRequest, CreateTopicsResponse, create_topics_request::CreatableTopic,
        create_topics_response::CreatableTopicResult,
    },
    protocol::StrBytes,
};
use uuid::Uuid;

use crate::request::RequestContext;

pub(super) fn handle(context: &RequestContext<'_>, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let results = request.topics.into_iter().map(|requested| {
        let result = CreatableTopicResult::default();
        let result = match create(context, &requested, request.validate_only) {
            Ok((id, partitions)) => result
                .with_topic_id(id)
                .with_num_partitions(i32::try_from(partitions).unwrap_or(i32::MAX))
                .with_replication_factor(1),
            Err(error) => result
                .with_error_code(error.code())
                .with_error_message(Some(StrBytes::from_string(error.to_string()))),
        };
        result.with_name(requested.name)
    });
    CreateTopicsResponse::default().with_topics(results.collect())
}

fn create(
    context: &RequestContext<'_>,
    requested: &CreatableTopic,
    validate_only: bool,
) -> Result<(Uuid, usize), ResponseError> {
    context.check_fault()?;
    // The order of the checks is that of Kafka's `ReplicationControlManager`.
    context.cluster.topics.validate_name(&requested.name)?;
    if requested.replication_factor < -1 || requested.replication_factor == 0 {
        return Err(ResponseError::InvalidReplicationFactor);
    }
    let partitions = match requested.num_partitions {
        // A replica assignment gives the number of partitions.
        -1 if !requested.assignments.is_empty() => requested.assignments.len(),
        -1 => context.cluster.config.default_partitions,
        given => match usize::try_from(given) {
            Ok(0) | Err(_) => return Err(ResponseError::InvalidPartitions),
            Ok(given) => given,
        },
    };
    if requested.replication_factor > 1 {
        return Err(ResponseError::InvalidReplicationFactor);
    }
    if validate_only {
        context.cluster.topics.validate(&requested.name, partitions)?;
        return Ok((Uuid::nil(), partitions));
    }
    let topic = context.cluster.create_topic(&requested.name, partitions)?;
    Ok((topic.id, partitions))
}
