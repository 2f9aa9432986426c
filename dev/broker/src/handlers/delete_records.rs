//! `DeleteRecords` moves the log start offset (KIP-107).

use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse,
    delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult},
};

use crate::request::RequestContext;

pub(super) fn handle(context: &RequestContext<'_>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let topics = request.topics.into_iter().map(|requested| {
        let topic = context.cluster.topics.by_name(&requested.name);
        let results = requested.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            let result = DeleteRecordsPartitionResult::default().with_partition_index(index);
            let deleted = context
                .partition(&topic, index)
                .and_then(|found| found.delete_records(context.leader_check(-1), partition.offset));
            match deleted {
                Ok(start_offset) => result.with_low_watermark(start_offset),
                Err(error) => result.with_error_code(error.code()).with_low_watermark(-1),
            }
        });
        let results = results.collect();
        DeleteRecordsTopicResult::default()
            .with_name(requested.name)
            .with_partitions(results)
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}
