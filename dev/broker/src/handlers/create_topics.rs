//! `CreateTopics`. Topic configs are taken and ignored: what they are about is not there.

use kafka_protocol::{
    error::ResponseError,
    messages::{
        CreateTopicsRequest, CreateTopicsResponse, create_topics_request::CreatableTopic,
        create_topics_response::CreatableTopicResult,
    },
    protocol::StrBytes,
};
use uuid::Uuid;

use crate::call::Call;

/// Creates each topic by itself.
pub(crate) fn answer(call: &Call<'_>, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let results = request.topics.into_iter().map(|asked| {
        let result = CreatableTopicResult::default();
        let result = match create(call, &asked, request.validate_only) {
            Ok((id, partitions)) => result
                .with_topic_id(id)
                .with_num_partitions(i32::try_from(partitions).unwrap_or(i32::MAX))
                .with_replication_factor(1),
            Err(error) => result
                .with_error_code(error.code())
                .with_error_message(Some(StrBytes::from_string(error.to_string()))),
        };
        result.with_name(asked.name)
    });
    let results = results.collect();
    CreateTopicsResponse::default()
        .with_throttle_time_ms(call.throttle_ms())
        .with_topics(results)
}

fn create(call: &Call<'_>, asked: &CreatableTopic, validate_only: bool) -> Result<(Uuid, usize), ResponseError> {
    call.admit()?;
    // The order of the checks is that of Kafka's `ReplicationControlManager`.
    call.cluster.topics.check_new(&asked.name)?;
    if asked.replication_factor < -1 || asked.replication_factor == 0 {
        return Err(ResponseError::InvalidReplicationFactor);
    }
    let partitions = match asked.num_partitions {
        // Who names the replicas of each partition does not say how many there are.
        -1 if !asked.assignments.is_empty() => asked.assignments.len(),
        -1 => call.cluster.config.default_partitions,
        given => match usize::try_from(given) {
            Ok(0) | Err(_) => return Err(ResponseError::InvalidPartitions),
            Ok(given) => given,
        },
    };
    if asked.replication_factor > 1 {
        return Err(ResponseError::InvalidReplicationFactor);
    }
    if validate_only {
        call.cluster.topics.check(&asked.name, partitions)?;
        return Ok((Uuid::nil(), partitions));
    }
    let topic = call.cluster.create_topic(&asked.name, partitions)?;
    Ok((topic.id, partitions))
}
