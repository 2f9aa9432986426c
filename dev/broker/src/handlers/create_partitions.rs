//! `CreatePartitions` increases the number of partitions of a topic.

use kafka_protocol::{
    error::ResponseError,
    messages::{
        CreatePartitionsRequest, CreatePartitionsResponse, create_partitions_request::CreatePartitionsTopic,
        create_partitions_response::CreatePartitionsTopicResult,
    },
    protocol::StrBytes,
};

use crate::request::RequestContext;

pub(super) fn handle(context: &RequestContext<'_>, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let results = request.topics.into_iter().map(|requested| {
        let result = CreatePartitionsTopicResult::default();
        let result = match create(context, &requested, request.validate_only) {
            Ok(()) => result,
            Err(error) => result
                .with_error_code(error.code())
                .with_error_message(Some(StrBytes::from_string(error.to_string()))),
        };
        result.with_name(requested.name)
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}

fn create(
    context: &RequestContext<'_>,
    requested: &CreatePartitionsTopic,
    validate_only: bool,
) -> Result<(), ResponseError> {
    context.check_fault()?;
    // A negative number is invalid as well.
    let partitions = usize::try_from(requested.count).unwrap_or(0);
    context
        .cluster
        .topics
        .validate_partitions(&requested.name, partitions)?;
    if let Some(assignments) = &requested.assignments {
        let current = context.cluster.topics.by_name(&requested.name)?.partitions.len();
        if current + assignments.len() != partitions {
            return Err(ResponseError::InvalidReplicaAssignment);
        }
    }
    if validate_only {
        return Ok(());
    }
    context.cluster.create_partitions(&requested.name, partitions)
}
