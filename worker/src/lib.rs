//! The worker: reads requests from `ping`, answers each by a pure function, and writes the replies to `pong`.

#![forbid(unsafe_code)]

mod announcements;
mod answer;
mod clocks;
mod crew;
mod destinations;
mod excerpt;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod metrics;
mod reader;
mod receipts;
mod settings;
mod skipped;
mod worker;

pub use self::{
    settings::{ANNOUNCE_INTERVAL, POSITION_GROUP, Settings},
    worker::Worker,
};
