//! `Produce` appends batches to partitions.

use kafka_protocol::{
    error::ResponseError,
    messages::{
        ProduceRequest, ProduceResponse,
        produce_request::PartitionProduceData,
        produce_response::{PartitionProduceResponse, TopicProduceResponse},
    },
};

use super::HandlerResult;
use crate::{
    batch::Batch,
    partition::{LogAppendInfo, Partition},
    request::{RequestContext, RequestError},
};

/// Each partition succeeds or fails alone. With acks = 0 there is no response, and an error closes the connection. Kafka
/// does that too, so that the producer refreshes its metadata.
pub(super) fn handle(context: &RequestContext<'_>, request: &ProduceRequest) -> Result<HandlerResult, RequestError> {
    let topics = request.topic_data.iter().map(|requested| {
        let topic = context.topic(&requested.name, &requested.topic_id);
        let partitions = requested.partition_data.iter().map(|data| {
            let appended = context
                .partition(&topic, data.index)
                .and_then(|partition| append(context, partition, data, request.acks));
            let response = PartitionProduceResponse::default().with_index(data.index);
            match appended {
                Ok(appended) => response
                    .with_base_offset(appended.base_offset)
                    .with_log_start_offset(appended.log_start_offset),
                Err(error) => response.with_error_code(error.code()).with_base_offset(-1),
            }
        });
        TopicProduceResponse::default()
            .with_name(requested.name.clone())
            .with_topic_id(requested.topic_id)
            .with_partition_responses(partitions.collect())
    });
    let topics: Vec<_> = topics.collect();
    if request.acks == 0 {
        let mut partitions = topics.iter().flat_map(|topic| &topic.partition_responses);
        return Ok(if partitions.any(|partition| partition.error_code != 0) {
            HandlerResult::Disconnect
        } else {
            HandlerResult::NoResponse
        });
    }
    let response = ProduceResponse::default().with_responses(topics);
    context.respond(&response).map(HandlerResult::Response)
}

fn append(
    context: &RequestContext<'_>,
    partition: &Partition,
    data: &PartitionProduceData,
    acks: i16,
) -> Result<LogAppendInfo, ResponseError> {
    if !matches!(acks, -1..=1) {
        return Err(ResponseError::InvalidRequiredAcks);
    }
    let max_bytes = context.cluster.config.max_batch_bytes;
    let batch = Batch::validate(data.records.as_ref(), context.version, max_bytes)?;
    partition.append(context.leader_check(-1), batch)
}
