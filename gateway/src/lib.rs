//! The gateway: HTTP in front, a record to Kafka, and the reply from Kafka to the very caller who asked.
//!
//! ```text
//! front ── register ──▶ pending ◀── resolve ── replies ◀── consumer of `pong`
//!   └───── record ────▶ producer of `ping`
//! ```

#![forbid(unsafe_code)]

mod adaptive_limit;
mod admission;
mod body;
mod descriptors;
mod ended_requests;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gateway;
mod in_flight;
mod metrics;
mod replies;
mod reply_address;
mod request_context;
mod response;
mod route;
mod service;
mod settings;
mod worker_presence;

pub use self::{gateway::Gateway, reply_address::ReplyPartition, settings::Settings};
