//! `OffsetDelete` deletes committed offsets of topics that the group does not subscribe to.

use kafka_protocol::messages::{
    OffsetDeleteRequest, OffsetDeleteResponse,
    offset_delete_request::OffsetDeleteRequestTopic,
    offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic},
};

use crate::request::RequestContext;

pub(super) fn handle(context: &RequestContext<'_>, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let response = OffsetDeleteResponse::default();
    let group = request.group_id.as_str();
    let snapshot = context.cluster.snapshot();
    let found = context
        .check_coordinator(group)
        .and_then(|()| context.cluster.groups.with(group, &snapshot, |_| ()));
    match found {
        Ok(()) => {
            let topics = request.topics.iter().map(|topic| delete(context, group, topic));
            response.with_topics(topics.collect())
        }
        Err(error) => response.with_error_code(error.code()),
    }
}

fn delete(
    context: &RequestContext<'_>,
    group: &str,
    requested: &OffsetDeleteRequestTopic,
) -> OffsetDeleteResponseTopic {
    let topic = context.cluster.topics.by_name(&requested.name);
    let partitions = requested.partitions.iter().map(|partition| {
        let index = partition.partition_index;
        let deleted = context.partition(&topic, index).and_then(|_| {
            let groups = &context.cluster.groups;
            groups.delete_offset(group, &requested.name, index, &context.cluster.snapshot())
        });
        OffsetDeleteResponsePartition::default()
            .with_partition_index(index)
            .with_error_code(deleted.map_or_else(|error| error.code(), |()| 0))
    });
    let partitions = partitions.collect();
    OffsetDeleteResponseTopic::default()
        .with_name(requested.name.clone())
        .with_partitions(partitions)
}
