//! The gateway: turns an HTTP request into a record on the request topic, and its reply record into the response.
//! It depends on the crates `kafka` and `shared`.
//!
//! ```text
//!            ┌─ register ─▶ in_flight ◀─ reply ── replies ◀── consumer of `pong`
//! service ───┤
//!            └─ record ───▶ producer of `ping`
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
mod ping_body;
mod replies;
mod reply_address;
mod request_context;
mod response;
mod route;
mod service;
mod settings;
mod worker_presence;

pub use self::{gateway::Gateway, reply_address::ReplyPartition, settings::Settings};
