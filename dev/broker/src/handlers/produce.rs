//! `Produce`: batches into partitions.

use bytes::Bytes;
use kafka_protocol::{
    error::ResponseError,
    messages::{
        ProduceRequest, ProduceResponse,
        produce_request::{PartitionProduceData, TopicProduceData},
        produce_response::{PartitionProduceResponse, TopicProduceResponse},
    },
};

use super::Outcome;
use crate::{
    batch::Batch,
    call::{Call, Refused},
    partition::Appended,
    topics::Topic,
};

/// Appends every batch that can be appended. With acks = 0 there is no answer, and a failure closes the connection, which
/// is how Kafka makes such a producer look for the leader again.
pub(crate) fn answer(call: &Call<'_>, request: &ProduceRequest) -> Result<Outcome, Refused> {
    let responses: Vec<_> = request
        .topic_data
        .iter()
        .map(|topic| produce(call, topic, request.acks))
        .collect();
    if request.acks == 0 {
        let mut partitions = responses.iter().flat_map(|topic| &topic.partition_responses);
        let failed = partitions.any(|partition| partition.error_code != 0);
        return Ok(if failed { Outcome::HangUp } else { Outcome::Silence });
    }
    let response = ProduceResponse::default().with_responses(responses);
    Ok(Outcome::Reply(
        call.reply(&response.with_throttle_time_ms(call.throttle_ms()))?,
    ))
}

fn produce(call: &Call<'_>, asked: &TopicProduceData, acks: i16) -> TopicProduceResponse {
    let topic = call.topic(&asked.name, &asked.topic_id);
    let answers = asked.partition_data.iter().map(|partition| {
        let topic = topic.as_ref().map_err(|error| *error);
        let appended = topic.and_then(|topic| append(call, topic, partition, acks));
        let answer = PartitionProduceResponse::default().with_index(partition.index);
        match appended {
            Ok(appended) => answer
                .with_base_offset(appended.base)
                .with_log_start_offset(appended.start),
            Err(error) => answer.with_error_code(error.code()).with_base_offset(-1),
        }
    });
    TopicProduceResponse::default()
        .with_name(asked.name.clone())
        .with_topic_id(asked.topic_id)
        .with_partition_responses(answers.collect())
}

fn append(call: &Call<'_>, topic: &Topic, data: &PartitionProduceData, acks: i16) -> Result<Appended, ResponseError> {
    call.admit()?;
    if !matches!(acks, -1..=1) {
        return Err(ResponseError::InvalidRequiredAcks);
    }
    let partition = topic
        .partition(data.index)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    let records: Option<&Bytes> = data.records.as_ref();
    let batch = Batch::check(records, call.version, call.cluster.config.max_batch_bytes)?;
    partition.append(call.asked(-1), batch)
}
