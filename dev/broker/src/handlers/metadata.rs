//! `Metadata`: the nodes, the topics and who leads their partitions.

use std::sync::Arc;

use kafka_protocol::{
    error::ResponseError,
    messages::{
        BrokerId, MetadataRequest, MetadataResponse, TopicName,
        metadata_request::MetadataRequestTopic,
        metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
    },
    protocol::StrBytes,
};

use crate::{call::Call, cluster::FIRST_NODE, topics::Topic};

/// Every broker is a cluster of its own; clients only compare it.
const CLUSTER_ID: &str = "in-memory-broker";

/// Answers with the topics asked for, or with all of them.
pub(crate) fn answer(call: &Call<'_>, request: MetadataRequest) -> MetadataResponse {
    let brokers = call.nodes().map(|(id, host, port)| {
        MetadataResponseBroker::default()
            .with_node_id(id)
            .with_host(host)
            .with_port(port)
    });
    // Before version 4 a client cannot say, and means yes.
    let may_create = call.cluster.config.auto_create_topics && (call.version < 4 || request.allow_auto_topic_creation);
    let topics = match request.topics {
        Some(asked) if !(call.version == 0 && asked.is_empty()) => {
            asked.into_iter().map(|topic| one(call, topic, may_create)).collect()
        }
        _ => call
            .cluster
            .topics
            .all()
            .iter()
            .map(|topic| describe(call, topic))
            .collect(),
    };
    MetadataResponse::default()
        .with_throttle_time_ms(call.throttle_ms())
        .with_brokers(brokers.collect())
        .with_cluster_id(Some(StrBytes::from_static_str(CLUSTER_ID)))
        .with_controller_id(BrokerId(FIRST_NODE))
        .with_topics(topics)
}

fn one(call: &Call<'_>, asked: MetadataRequestTopic, may_create: bool) -> MetadataResponseTopic {
    match find(call, &asked, may_create) {
        Ok(topic) => describe(call, &topic),
        Err(error) => {
            // A topic asked for by its id has no name then, which is allowed from version 12 on (KIP-516).
            let name = asked.name.filter(|_| asked.topic_id.is_nil());
            MetadataResponseTopic::default()
                .with_error_code(error.code())
                .with_name(name.or_else(|| (call.version < 12).then(TopicName::default)))
                .with_topic_id(asked.topic_id)
        }
    }
}

fn find(call: &Call<'_>, asked: &MetadataRequestTopic, may_create: bool) -> Result<Arc<Topic>, ResponseError> {
    let topics = &call.cluster.topics;
    if !asked.topic_id.is_nil() {
        return topics.identified(&asked.topic_id);
    }
    let name = asked.name.as_ref().ok_or(ResponseError::InvalidRequest)?;
    crate::topics::check_name(name)?;
    match topics.named(name) {
        Err(ResponseError::UnknownTopicOrPartition) if may_create => {
            let made = call.cluster.create_topic(name, call.cluster.config.default_partitions);
            // Somebody else may have been faster.
            made.or_else(|_| topics.named(name))
        }
        found => found,
    }
}

fn describe(call: &Call<'_>, topic: &Topic) -> MetadataResponseTopic {
    let described = MetadataResponseTopic::default()
        .with_name(Some(topic.name.clone()))
        .with_topic_id(topic.id);
    if let Err(error) = call.admit() {
        return described.with_error_code(error.code());
    }
    let partitions = topic.partitions.iter().zip(0..).map(|(partition, index)| {
        let leader = partition.leadership();
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(leader.node))
            .with_leader_epoch(leader.epoch)
            .with_replica_nodes(vec![BrokerId(leader.node)])
            .with_isr_nodes(vec![BrokerId(leader.node)])
    });
    described.with_partitions(partitions.collect())
}
