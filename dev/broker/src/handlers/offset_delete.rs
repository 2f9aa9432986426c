//! `OffsetDelete`: a group forgets positions in topics it does not read any more.

use kafka_protocol::{
    error::ResponseError,
    messages::{
        OffsetDeleteRequest, OffsetDeleteResponse,
        offset_delete_request::OffsetDeleteRequestTopic,
        offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic},
    },
};

use crate::call::Call;

/// Forgets each position by itself, if there is such a group.
pub(crate) fn answer(call: &Call<'_>, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let response = OffsetDeleteResponse::default().with_throttle_time_ms(call.throttle_ms());
    let group = request.group_id.as_str();
    let found = call
        .admit_group(group)
        .and_then(|()| call.cluster.groups.with(group, &call.cluster.view(), |_| ()));
    match found {
        Ok(()) => {
            let topics = request.topics.iter().map(|topic| forget(call, group, topic));
            response.with_topics(topics.collect())
        }
        Err(error) => response.with_error_code(error.code()),
    }
}

fn forget(call: &Call<'_>, group: &str, asked: &OffsetDeleteRequestTopic) -> OffsetDeleteResponseTopic {
    let topic = call.cluster.topics.named(&asked.name);
    let partitions = asked.partitions.iter().map(|partition| {
        let index = partition.partition_index;
        let known = topic.as_ref().is_ok_and(|topic| topic.partition(index).is_some());
        let forgotten = if known {
            let groups = &call.cluster.groups;
            groups.forget_position(group, &asked.name, index, &call.cluster.view())
        } else {
            Err(ResponseError::UnknownTopicOrPartition)
        };
        OffsetDeleteResponsePartition::default()
            .with_partition_index(index)
            .with_error_code(forgotten.map_or_else(|error| error.code(), |()| 0))
    });
    let partitions = partitions.collect();
    OffsetDeleteResponseTopic::default()
        .with_name(asked.name.clone())
        .with_partitions(partitions)
}
