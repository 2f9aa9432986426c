//! `DeleteTopics`, by name or since version 6 by id (KIP-516).

use kafka_protocol::{
    error::ResponseError,
    messages::{
        DeleteTopicsRequest, DeleteTopicsResponse, delete_topics_request::DeleteTopicState,
        delete_topics_response::DeletableTopicResult,
    },
};

use crate::request::RequestContext;

pub(super) fn handle(context: &RequestContext<'_>, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let by_name = request
        .topic_names
        .into_iter()
        .map(|name| DeleteTopicState::default().with_name(Some(name)));
    let results = request.topics.into_iter().chain(by_name).map(|requested| {
        let result = delete(context, &requested);
        DeletableTopicResult::default()
            .with_error_code(result.map_or_else(|error| error.code(), |()| 0))
            .with_name(requested.name)
            .with_topic_id(requested.topic_id)
    });
    DeleteTopicsResponse::default().with_responses(results.collect())
}

fn delete(context: &RequestContext<'_>, requested: &DeleteTopicState) -> Result<(), ResponseError> {
    context.check_fault()?;
    let topics = &context.cluster.topics;
    let topic = match &requested.name {
        Some(name) => topics.by_name(name)?,
        None => topics.by_id(&requested.topic_id)?,
    };
    context.cluster.delete_topic(&topic)
}
