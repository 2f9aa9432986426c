//! `Metadata`: the nodes, the topics, and the leader of each partition.

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

use crate::{cluster::FIRST_NODE, request::RequestContext, topics::Topic};

/// The same for every broker process; clients only compare it.
const CLUSTER_ID: &str = "in-memory-broker";

pub(super) fn handle(context: &RequestContext<'_>, request: MetadataRequest) -> MetadataResponse {
    let brokers = context.cluster.nodes().into_iter().map(|node| {
        let (id, host, port) = context.broker(&node);
        MetadataResponseBroker::default()
            .with_node_id(id)
            .with_host(host)
            .with_port(port)
    });
    // Version 4 added the flag; older clients allow it.
    let may_create =
        context.cluster.config.auto_create_topics && (context.version < 4 || request.allow_auto_topic_creation);
    let topics = match request.topics {
        Some(requested) if !(context.version == 0 && requested.is_empty()) => requested
            .into_iter()
            .map(|topic| describe_requested(context, topic, may_create))
            .collect(),
        _ => context
            .cluster
            .topics
            .all()
            .iter()
            .map(|topic| describe(context, topic))
            .collect(),
    };
    MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_cluster_id(Some(StrBytes::from_static_str(CLUSTER_ID)))
        .with_controller_id(BrokerId(FIRST_NODE))
        .with_topics(topics)
}

fn describe_requested(
    context: &RequestContext<'_>,
    requested: MetadataRequestTopic,
    may_create: bool,
) -> MetadataResponseTopic {
    match find_or_create(context, &requested, may_create) {
        Ok(topic) => describe(context, &topic),
        Err(error) => {
            // The name is null if the request names an id; null is allowed since version 12 (KIP-516).
            let name = requested.name.filter(|_| requested.topic_id.is_nil());
            MetadataResponseTopic::default()
                .with_error_code(error.code())
                .with_name(name.or_else(|| (context.version < 12).then(TopicName::default)))
                .with_topic_id(requested.topic_id)
        }
    }
}

fn find_or_create(
    context: &RequestContext<'_>,
    requested: &MetadataRequestTopic,
    may_create: bool,
) -> Result<Arc<Topic>, ResponseError> {
    let topics = &context.cluster.topics;
    if !requested.topic_id.is_nil() {
        return topics.by_id(&requested.topic_id);
    }
    let name = requested.name.as_ref().ok_or(ResponseError::InvalidRequest)?;
    crate::topics::validate_name(name)?;
    match topics.by_name(name) {
        Err(ResponseError::UnknownTopicOrPartition) if may_create => {
            let created = context
                .cluster
                .create_topic(name, context.cluster.config.default_partitions);
            // Another request may have created it in between.
            created.or_else(|_| topics.by_name(name))
        }
        found => found,
    }
}

fn describe(context: &RequestContext<'_>, topic: &Topic) -> MetadataResponseTopic {
    let described = MetadataResponseTopic::default()
        .with_name(Some(topic.name.clone()))
        .with_topic_id(topic.id);
    if let Err(error) = context.check_fault() {
        return described.with_error_code(error.code());
    }
    let partitions = topic.partitions.iter().zip(0..).map(|(partition, index)| {
        let leader = partition.leader();
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(leader.node))
            .with_leader_epoch(leader.epoch)
            .with_replica_nodes(vec![BrokerId(leader.node)])
            .with_isr_nodes(vec![BrokerId(leader.node)])
    });
    described.with_partitions(partitions.collect())
}
