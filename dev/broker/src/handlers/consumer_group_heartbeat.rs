//! `ConsumerGroupHeartbeat`: members join, stay and leave, and get their assignment (KIP-848).

use kafka_protocol::{
    error::ResponseError,
    messages::{
        ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicName,
        consumer_group_heartbeat_response::{Assignment, TopicPartitions},
    },
    protocol::StrBytes,
};
use uuid::Uuid;

use crate::{
    groups::{Client, Heartbeat, HeartbeatResult, PartitionSet, UNIFORM, by_topic},
    request::{RequestContext, millis},
};

pub(super) fn handle(
    context: &RequestContext<'_>,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    let response = ConsumerGroupHeartbeatResponse::default();
    match heartbeat(context, request) {
        Ok((member_id, result)) => response
            .with_member_id(Some(StrBytes::from_string(member_id)))
            .with_member_epoch(result.member_epoch)
            // A member that leaves sends no further heartbeat.
            .with_heartbeat_interval_ms(if result.member_epoch < 0 {
                0
            } else {
                interval_ms(context)
            })
            .with_assignment(result.assignment.map(|partitions| assignment(&partitions))),
        Err(error) => response
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_string(error.to_string()))),
    }
}

fn heartbeat(
    context: &RequestContext<'_>,
    request: ConsumerGroupHeartbeatRequest,
) -> Result<(String, HeartbeatResult), ResponseError> {
    validate(context, &request)?;
    context.check_coordinator(&request.group_id)?;
    // In version 0 the coordinator chooses the id.
    let member_id = match request.member_id.as_str() {
        "" => Uuid::new_v4().to_string(),
        given => given.to_owned(),
    };
    let text = |text: Option<StrBytes>| text.map(|text| text.to_string());
    let names = |names: Vec<TopicName>| names.iter().map(|name| name.to_string()).collect();
    let owned_partitions = request.topic_partitions.map(|topics| {
        let partitions = topics.into_iter().flat_map(|topic| {
            let id = topic.topic_id;
            topic.partitions.into_iter().map(move |index| (id, index))
        });
        partitions.collect::<PartitionSet>()
    });
    let heartbeat = Heartbeat {
        member_id: member_id.clone(),
        member_epoch: request.member_epoch,
        instance_id: text(request.instance_id),
        rack_id: text(request.rack_id),
        rebalance_timeout: (request.rebalance_timeout_ms != -1).then(|| millis(request.rebalance_timeout_ms)),
        subscribed_topics: request.subscribed_topic_names.map(names),
        owned_partitions,
        client: Client {
            id: String::from_utf8_lossy(&context.client_id).into_owned(),
            host: format!("/{}", context.client_ip.to_canonical()),
        },
    };
    let groups = &context.cluster.groups;
    let result = groups.heartbeat(&request.group_id, heartbeat, &context.cluster.snapshot())?;
    Ok((member_id, result))
}

/// Kafka's `throwIfConsumerGroupHeartbeatRequestIsInvalid`.
fn validate(context: &RequestContext<'_>, request: &ConsumerGroupHeartbeatRequest) -> Result<(), ResponseError> {
    let is_empty = |text: &Option<StrBytes>| text.as_ref().is_some_and(|text| text.is_empty());
    let needs_id = context.version >= 1 || request.member_epoch > 0 || request.member_epoch == -1;
    let misses_id = needs_id && request.member_id.is_empty();
    let is_epoch_invalid = match request.member_epoch {
        0 => {
            let owns_nothing = request.topic_partitions.as_ref().is_some_and(Vec::is_empty);
            let subscribes = request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some();
            request.rebalance_timeout_ms == -1 || !owns_nothing || !subscribes
        }
        -2 => request.instance_id.is_none(),
        epoch => epoch < -2,
    };
    // An empty regex removes the subscription. Other regexes are not supported.
    let regex = request.subscribed_topic_regex.as_ref();
    let has_regex = regex.is_some_and(|regex| !regex.is_empty());
    if misses_id
        || request.group_id.is_empty()
        || is_empty(&request.instance_id)
        || is_empty(&request.rack_id)
        || is_epoch_invalid
        || has_regex
    {
        return Err(ResponseError::InvalidRequest);
    }
    match request.server_assignor.as_deref() {
        None | Some(UNIFORM) => Ok(()),
        Some(_) => Err(ResponseError::UnsupportedAssignor),
    }
}

fn interval_ms(context: &RequestContext<'_>) -> i32 {
    i32::try_from(context.cluster.config.heartbeat_interval.as_millis()).unwrap_or(i32::MAX)
}

fn assignment(partitions: &PartitionSet) -> Assignment {
    let topics = by_topic(partitions)
        .into_iter()
        .map(|(id, partitions)| TopicPartitions::default().with_topic_id(id).with_partitions(partitions));
    Assignment::default().with_topic_partitions(topics.collect())
}
