//! `DeleteTopics`, by name or, from version 6 on, by id (KIP-516).

use kafka_protocol::{
    error::ResponseError,
    messages::{
        DeleteTopicsRequest, DeleteTopicsResponse, delete_topics_request::DeleteTopicState,
        delete_topics_response::DeletableTopicResult,
    },
};

use crate::call::Call;

/// Deletes each topic by itself.
pub(crate) fn answer(call: &Call<'_>, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let named = request
        .topic_names
        .into_iter()
        .map(|name| DeleteTopicState::default().with_name(Some(name)));
    let results = request.topics.into_iter().chain(named).map(|asked| {
        let result = delete(call, &asked);
        DeletableTopicResult::default()
            .with_error_code(result.map_or_else(|error| error.code(), |()| 0))
            .with_name(asked.name)
            .with_topic_id(asked.topic_id)
    });
    let results = results.collect();
    DeleteTopicsResponse::default()
        .with_throttle_time_ms(call.throttle_ms())
        .with_responses(results)
}

fn delete(call: &Call<'_>, asked: &DeleteTopicState) -> Result<(), ResponseError> {
    call.admit()?;
    let topics = &call.cluster.topics;
    let topic = match &asked.name {
        Some(name) => topics.named(name)?,
        None => topics.identified(&asked.topic_id)?,
    };
    call.cluster.delete_topic(&topic)
}
