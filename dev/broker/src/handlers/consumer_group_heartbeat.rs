//! `ConsumerGroupHeartbeat`: all that members and coordinator of a group have to say to each other (KIP-848).

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
    call::{Call, wait},
    groups::{Beat, Client, Partitions, Pulse, UNIFORM, by_topic},
};

/// Passes on a heartbeat that makes sense.
pub(crate) fn answer(call: &Call<'_>, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
    let response = ConsumerGroupHeartbeatResponse::default().with_throttle_time_ms(call.throttle_ms());
    match beat(call, request) {
        Ok((member, pulse)) => response
            .with_member_id(Some(StrBytes::from_string(member)))
            .with_member_epoch(pulse.epoch)
            // Who leaves needs none.
            .with_heartbeat_interval_ms(if pulse.epoch < 0 { 0 } else { interval_ms(call) })
            .with_assignment(pulse.assignment.map(|partitions| assignment(&partitions))),
        Err(error) => response
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_string(error.to_string()))),
    }
}

fn beat(call: &Call<'_>, request: ConsumerGroupHeartbeatRequest) -> Result<(String, Pulse), ResponseError> {
    check(call, &request)?;
    call.admit_group(&request.group_id)?;
    // Until version 1 the coordinator may choose the id.
    let member = match request.member_id.as_str() {
        "" => Uuid::new_v4().to_string(),
        given => given.to_owned(),
    };
    let text = |text: Option<StrBytes>| text.map(|text| text.to_string());
    let names = |names: Vec<TopicName>| names.iter().map(|name| name.to_string()).collect();
    let owned = request.topic_partitions.map(|topics| {
        let partitions = topics.into_iter().flat_map(|topic| {
            let id = topic.topic_id;
            topic.partitions.into_iter().map(move |index| (id, index))
        });
        partitions.collect::<Partitions>()
    });
    let beat = Beat {
        member: member.clone(),
        epoch: request.member_epoch,
        instance: text(request.instance_id),
        rack: text(request.rack_id),
        rebalance_timeout: (request.rebalance_timeout_ms != -1).then(|| wait(request.rebalance_timeout_ms)),
        subscribed: request.subscribed_topic_names.map(names),
        owned,
        client: Client {
            id: String::from_utf8_lossy(&call.client_id).into_owned(),
            host: format!("/{}", call.peer.to_canonical()),
        },
    };
    let pulse = call
        .cluster
        .groups
        .beat(&request.group_id, beat, &call.cluster.view())?;
    Ok((member, pulse))
}

/// Kafka's `throwIfConsumerGroupHeartbeatRequestIsInvalid`.
fn check(call: &Call<'_>, request: &ConsumerGroupHeartbeatRequest) -> Result<(), ResponseError> {
    let empty = |text: &Option<StrBytes>| text.as_ref().is_some_and(|text| text.is_empty());
    let needs_id = call.version >= 1 || request.member_epoch > 0 || request.member_epoch == -1;
    let nameless = needs_id && request.member_id.is_empty();
    let epoch_makes_no_sense = match request.member_epoch {
        0 => {
            let owns_nothing = request.topic_partitions.as_ref().is_some_and(Vec::is_empty);
            let subscribes = request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some();
            request.rebalance_timeout_ms == -1 || !owns_nothing || !subscribes
        }
        -2 => request.instance_id.is_none(),
        epoch => epoch < -2,
    };
    // An empty pattern takes one back; others are not served.
    let pattern = request.subscribed_topic_regex.as_ref();
    let pattern = pattern.is_some_and(|pattern| !pattern.is_empty());
    if nameless
        || request.group_id.is_empty()
        || empty(&request.instance_id)
        || empty(&request.rack_id)
        || epoch_makes_no_sense
        || pattern
    {
        return Err(ResponseError::InvalidRequest);
    }
    match request.server_assignor.as_deref() {
        None | Some(UNIFORM) => Ok(()),
        Some(_) => Err(ResponseError::UnsupportedAssignor),
    }
}

fn interval_ms(call: &Call<'_>) -> i32 {
    i32::try_from(call.cluster.config.heartbeat_interval.as_millis()).unwrap_or(i32::MAX)
}

fn assignment(partitions: &Partitions) -> Assignment {
    let topics = by_topic(partitions)
        .into_iter()
        .map(|(id, partitions)| TopicPartitions::default().with_topic_id(id).with_partitions(partitions));
    Assignment::default().with_topic_partitions(topics.collect())
}
