//! The worker: consumes requests from the request topic, answers each with the `/ping` handler, and produces the replies.
//!
//! May depend on `kafka` and `shared`, and on no other crate of the workspace but `static-rt`, which the binary links.
//! `worker` builds the parts; `consumer` runs a `partition_worker` per partition;
//! `reply_producers` sends the replies.

#![forbid(unsafe_code)]

mod consumer;
mod delivery;
mod expiry;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod heartbeats;
mod metrics;
mod partition_worker;
mod ping;
mod reply_producers;
mod settings;
mod skipped;
mod truncated;
mod worker;

pub use self::{
    settings::{ANNOUNCE_INTERVAL, POSITION_GROUP, Settings},
    worker::Worker,
};
