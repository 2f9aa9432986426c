//! `OffsetForLeaderEpoch`: the end offset of a leader epoch, by which consumers detect a truncated log (KIP-320).

use kafka_protocol::messages::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult},
};

use crate::request::RequestContext;

pub(super) fn handle(
    context: &RequestContext<'_>,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|requested| {
        let topic = context.cluster.topics.by_name(&requested.topic);
        let results = requested.partitions.iter().map(|partition| {
            let check = context.leader_check(partition.current_leader_epoch);
            let result = EpochEndOffset::default().with_partition(partition.partition);
            let end = context
                .partition(&topic, partition.partition)
                .and_then(|found| found.end_offset_for_epoch(check, partition.leader_epoch));
            match end {
                Ok((epoch, offset)) => result.with_leader_epoch(epoch).with_end_offset(offset),
                Err(error) => result.with_error_code(error.code()),
            }
        });
        let results = results.collect();
        OffsetForLeaderTopicResult::default()
            .with_topic(requested.topic)
            .with_partitions(results)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}
