//! The gateway: turns an HTTP request into a record on the request topic, and its reply record into the response.
//! It depends on the crates `kafka` and `shared`.
//!
//! ```text
//!            ┌─ register ─▶ in_flight ◀─ reply ── replies ◀── consumer of `pong`
//! service ───┤
//!            └─ record ───▶ request_topic: producers of `ping`
//! ```

#![forbid(unsafe_code)]

mod adaptive_limit;
mod admission;
mod ask;
mod body;
mod check;
mod descriptors;
mod ended_requests;
mod example;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gateway;
mod http_reply;
mod http_request;
mod in_flight;
mod metrics;
mod ping_body;
mod replies;
mod reply_address;
mod request_context;
mod request_topic;
mod response;
mod routes;
mod service;
mod settings;
mod start;
mod topic_admission;
mod unusable_replies;
mod watched_topic;
mod worker_presence;
mod workers;

pub use self::{
    ask::Ask,
    check::Check,
    example::Example,
    gateway::Gateway,
    reply_address::ReplyPartition,
    settings::{Command, Settings},
};
