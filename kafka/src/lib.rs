//! The Kafka client: the only crate that names rskafka and kafka-protocol. It depends on `shared` only.
//!
//! - A [`Cluster`] finds partition leaders and creates missing topics.
//! - A [`Producer`] writes to partitions, a [`PartitionConsumer`] reads one. Both own their connections and reconnect after
//!   every failure, so their users see no connection and no fatal error.
//! - A [`Group`] is a membership by KIP-848. An [`OffsetTracker`] finds the offset to commit, and [`CommittedOffsets`]
//!   commits it through the [`Coordinator`].

mod accumulator;
mod assignment;
mod backoff;
mod call;
mod cluster;
mod committed_offsets;
mod coordinator;
mod cursor;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod group;
mod link;
mod membership;
mod metadata;
mod metrics;
#[cfg(target_os = "linux")]
mod nodelay;
#[cfg(not(target_os = "linux"))]
#[path = "no_nodelay.rs"]
mod nodelay;
mod offset_tracker;
mod partition_consumer;
mod partition_discovery;
mod producer;
mod record;

pub use self::{
    accumulator::Full,
    assignment::Assignment,
    backoff::Backoff,
    cluster::Cluster,
    committed_offsets::CommittedOffsets,
    coordinator::{Coordinator, Error as CoordinatorError, Subscription},
    cursor::Start,
    error::Error,
    group::Group,
    link::Partition,
    membership::{MemberEpoch, Rebalance},
    metrics::{CommitMetrics, ConsumerMetrics, ProducerMetrics},
    offset_tracker::{InFlightOffset, OffsetTracker},
    partition_consumer::{ConsumerRecords, PartitionConsumer},
    partition_discovery::PartitionDiscovery,
    producer::{DeliveryCallback, DeliveryResult, MAX_PRODUCER_CONNECTIONS, Producer, ProducerSettings, SendError},
    record::{ConsumedRecord, Record},
};
