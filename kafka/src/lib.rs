//! The Kafka client: the only crate that names rskafka and kafka-protocol. It depends on `shared` only.
//!
//! - A [`Cluster`] finds partition leaders and creates missing topics.
//! - A [`Producer`] writes to partitions, a [`PartitionConsumer`] reads one. Both own their connections and reconnect after
//!   every failure, so their users see no connection and no fatal error.
//! - A [`Group`] is a membership by KIP-848. An [`OffsetTracker`] finds the offset to commit, and [`CommittedOffsets`]
//!   commits it through the [`Coordinator`].

#![forbid(unsafe_code)]

mod accumulator;
mod api;
mod assignment;
mod backoff;
mod cluster;
mod committed_offsets;
mod compression;
mod connection;
mod consumed_record;
mod coordinator;
mod cursor;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod group;
mod leader;
mod membership;
mod metrics;
mod offset_tracker;
mod open_transactions;
mod partition_consumer;
mod partition_discovery;
mod partitioner;
mod producer;
mod record;
mod record_batch;
mod sasl;
#[cfg(test)]
mod scripted_broker;
mod security;
mod tls;
mod topic_partition;
mod transport;

pub use self::{
    accumulator::Full,
    assignment::Assignment,
    backoff::Backoff,
    cluster::{Cluster, TopicDescription},
    committed_offsets::CommittedOffsets,
    consumed_record::ConsumedRecord,
    coordinator::{Coordinator, Error as CoordinatorError, Subscription},
    cursor::{Start, WhenHeldFull},
    error::Error,
    group::Group,
    leader::Partition,
    membership::{MemberEpoch, Rebalance},
    metrics::{CommitMetrics, ConsumerMetrics, ProducerMetrics},
    offset_tracker::{InFlightOffset, OffsetTracker},
    partition_consumer::{ConsumerRecords, PartitionConsumer},
    partition_discovery::PartitionDiscovery,
    partitioner::partition_for_key,
    producer::{DeliveryCallback, DeliveryResult, MAX_PRODUCER_CONNECTIONS, Producer, ProducerSettings, SendError},
    record::Record,
    security::Security,
    topic_partition::TopicPartition,
};
