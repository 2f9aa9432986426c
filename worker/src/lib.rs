//! The worker: reads requests from `ping`, answers each by a pure function, and writes the replies to `pong`.

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
