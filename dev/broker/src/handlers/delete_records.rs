//! `DeleteRecords`: the start of a partition moves up (KIP-107).

use kafka_protocol::{
    error::ResponseError,
    messages::{
        DeleteRecordsRequest, DeleteRecordsResponse,
        delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
        delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult},
    },
};

use crate::{call::Call, topics::Topic};

/// Deletes in each partition by itself.
pub(crate) fn answer(call: &Call<'_>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let topics = request.topics.into_iter().map(|asked| delete(call, asked)).collect();
    DeleteRecordsResponse::default()
        .with_throttle_time_ms(call.throttle_ms())
        .with_topics(topics)
}

fn delete(call: &Call<'_>, asked: DeleteRecordsTopic) -> DeleteRecordsTopicResult {
    let topic = call.cluster.topics.named(&asked.name);
    let results = asked.partitions.iter().map(|partition| {
        let topic = topic.as_ref().map_err(|error| *error);
        let result = DeleteRecordsPartitionResult::default().with_partition_index(partition.partition_index);
        match topic.and_then(|topic| delete_in(call, topic, partition)) {
            Ok(start) => result.with_low_watermark(start),
            Err(error) => result.with_error_code(error.code()).with_low_watermark(-1),
        }
    });
    let results = results.collect();
    DeleteRecordsTopicResult::default()
        .with_name(asked.name)
        .with_partitions(results)
}

fn delete_in(call: &Call<'_>, topic: &Topic, asked: &DeleteRecordsPartition) -> Result<i64, ResponseError> {
    call.admit()?;
    let partition = topic
        .partition(asked.partition_index)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    partition.delete_below(call.asked(-1), asked.offset)
}
