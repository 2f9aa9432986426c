//! The Kafka seam: the only module that names rskafka.
//!
//! Three roles. A [`Cluster`] finds partition leaders and creates our two topics; an [`Producer`] produces; a
//! [`PartitionConsumer`] follows one partition from an offset. Producer and tail own their connections and rebuild them after
//! every fault, so that their users see neither a connection nor an error that ends anything.

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
