//! The gateway: HTTP in front, a record to Kafka, and the reply from Kafka to the very caller who asked.
//!
//! ```text
//! front ── register ──▶ pending ◀── resolve ── replies ◀── tail of `pong`
//!   └───── record ────▶ outbox of `ping`
//! ```

#![forbid(unsafe_code)]

mod answers;
mod bodies;
mod context;
mod descriptors;
mod finished;
mod front;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gateway;
mod ids;
mod liveness;
mod mailbox;
mod metrics;
mod pace;
mod pending;
mod replies;
mod requests;
mod settings;

pub use self::{gateway::Gateway, mailbox::ReplyPartition, settings::Settings};
