//! The worker: reads requests from `ping`, answers each by a pure function, and writes the replies to `pong`.

mod announcements;
mod answer;
mod assignment;
mod clocks;
mod coordinator;
mod crew;
mod destinations;
mod excerpt;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod group;
mod membership;
mod metrics;
mod positions;
mod progress;
mod reader;
mod receipts;
mod settings;
mod skipped;
mod worker;

pub use self::{
    settings::{ANNOUNCE_INTERVAL, POSITION_GROUP, Settings, StartFrom},
    worker::Worker,
};
