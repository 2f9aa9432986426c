//! The Kafka seam: the only module that names rskafka.
//!
//! Three roles. A [`Cluster`] finds partition leaders and creates our two topics; an [`Outbox`] produces; a
//! [`Tail`] follows one partition from an offset. Outbox and tail own their connections and rebuild them after
//! every fault, so that their users see neither a connection nor an error that ends anything.

mod assignment;
mod backoff;
mod call;
mod cluster;
mod coordinator;
mod cursor;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod group;
mod link;
mod membership;
mod metrics;
#[cfg(target_os = "linux")]
mod nodelay;
#[cfg(not(target_os = "linux"))]
#[path = "no_nodelay.rs"]
mod nodelay;
mod outbox;
mod positions;
mod progress;
mod queue;
mod record;
mod survey;
mod tail;

pub use self::{
    assignment::Assignment,
    backoff::Backoff,
    cluster::Cluster,
    coordinator::{Coordinator, Error as CoordinatorError, Subscription},
    cursor::Start,
    error::Error,
    group::Group,
    link::Partition,
    membership::{Change, Identity},
    metrics::{OutboxMetrics, PositionMetrics, TailMetrics},
    outbox::{Fate, LANES, Outbox, OutboxSettings, Receipts, Unsent},
    positions::Positions,
    progress::{Open, Progress},
    queue::Full,
    record::{Received, Record},
    survey::Survey,
    tail::{Batch, Tail},
};
