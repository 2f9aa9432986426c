//! `CreatePartitions` adds partitions to topics.

use kafka_protocol::{
    error::ResponseError,
    messages::{
        CreatePartitionsRequest, CreatePartitionsResponse, create_partitions_request::CreatePartitionsTopic,
        create_partitions_response::CreatePartitionsTopicResult,
    },
    protocol::StrBytes,
};

use crate::call::Call;

/// Lets each topic grow by itself.
pub(crate) fn answer(call: &Call<'_>, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let results = request.topics.into_iter().map(|asked| {
        let result = CreatePartitionsTopicResult::default();
        let result = match grow(call, &asked, request.validate_only) {
            Ok(()) => result,
            Err(error) => result
                .with_error_code(error.code())
                .with_error_message(Some(StrBytes::from_string(error.to_string()))),
        };
        result.with_name(asked.name)
    });
    let results = results.collect();
    CreatePartitionsResponse::default()
        .with_throttle_time_ms(call.throttle_ms())
        .with_results(results)
}

fn grow(call: &Call<'_>, asked: &CreatePartitionsTopic, validate_only: bool) -> Result<(), ResponseError> {
    call.admit()?;
    // A negative number is no more than there are, either.
    let partitions = usize::try_from(asked.count).unwrap_or(0);
    call.cluster.topics.check_growth(&asked.name, partitions)?;
    if let Some(assignments) = &asked.assignments {
        let had = call.cluster.topics.named(&asked.name)?.partitions.len();
        if had + assignments.len() != partitions {
            return Err(ResponseError::InvalidReplicaAssignment);
        }
    }
    if validate_only {
        return Ok(());
    }
    call.cluster.grow_topic(&asked.name, partitions)
}
