//! The Kafka seam: the only module that names rskafka.
//!
//! Three roles. A [`Cluster`] finds partition leaders and creates our two topics; an [`Outbox`] produces; a
//! [`Tail`] follows one partition from an offset. Outbox and tail own their connections and rebuild them after
//! every fault, so that their users see neither a connection nor an error that ends anything.

mod backoff;
mod call;
mod cluster;
mod cursor;
mod error;
mod link;
mod metrics;
#[cfg(target_os = "linux")]
mod nodelay;
#[cfg(not(target_os = "linux"))]
#[path = "kafka/no_nodelay.rs"]
mod nodelay;
mod outbox;
mod queue;
mod record;
mod survey;
mod tail;

pub use self::{
    backoff::Backoff,
    cluster::Cluster,
    cursor::Start,
    error::{Chain, Error},
    link::Partition,
    metrics::{OutboxMetrics, TailMetrics},
    outbox::{Fate, LANES, Outbox, OutboxSettings, Receipts, Unsent},
    queue::Full,
    record::{Received, Record},
    survey::Survey,
    tail::{Batch, Tail},
};
