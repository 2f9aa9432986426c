//! Services behind the gateway, in Rust: topics, each with a handler.
//!
//! A [`Worker`] reads request topics of Kafka, calls a handler for each [`Request`], and writes its [`Reply`] where the caller
//! waits. A handler is an async function. It is tested as one, without Kafka:
//!
//! ```
//! use worker::{Failure, Reply, Request};
//!
//! async fn greet(request: Request) -> Result<Reply, Failure> {
//!     let name = request.param("name").ok_or_else(|| Failure::new(404, "no name"))?;
//!     Ok(Reply::json(&format!("Hello {name}"))?)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let request = Request::builder("GET", "/greetings/Ada").param("name", "Ada").empty();
//! let reply = greet(request).await.unwrap();
//! assert_eq!((reply.status_code().as_u16(), reply.body()), (200, &br#""Hello Ada""#[..]));
//!
//! let failure = greet(Request::post("/greetings").empty()).await.unwrap_err();
//! assert_eq!(failure.status(), 404);
//! # }
//! ```
//!
//! The crate is a dependency by git tag, which also says which Rust it needs. It is not on crates.io: the `worker` there is
//! another crate.
//!
//! ```toml
//! worker = { git = "URL of this repository", tag = "v0.1.0" }
//! ```
//!
//! # Guarantees
//!
//! - **At least once.** A request is done when its handler has ended and Kafka has acknowledged its reply. Only then the
//!   committed offset moves past it. A worker that is killed, or a partition that changes its owner, repeats the requests that
//!   were not done, and those behind them: the lowest offset that is not done is the one that is committed. A handler that must
//!   not work twice stores an id of the request under a unique constraint: the caller's idempotency key, or topic, partition
//!   and offset. [`Request::key`] is no such id: many requests may have the same.
//! - **Order.** Requests with the same key are handled one at a time, in the order of their partition. Others are handled
//!   concurrently, 64 at a time by default ([`Worker::concurrency`]). A repeated request comes behind later ones that were done
//!   before.
//! - **Deadlines.** A request whose caller has given up is skipped. A handler is dropped at the deadline of its request
//!   ([`Request::deadline`]), or after 60 s if there is none ([`Worker::default_timeout`]). Work that must not be cut belongs
//!   into a task of its own: `tokio::spawn(work).await`. Such a task holds up neither the next request of its key nor a shutdown.
//! - **Failures.** A [`Failure`] tells the caller its status and message. Any other error, and a panic, is 500
//!   `the service failed`; its text goes to the log only. Nothing is tried again while a caller waits. Only an `Err` is a
//!   failure: a [`Reply`] with status 500 is done.
//! - **Without a caller** ([`Request::wants_reply`] is false, a route with `reply = false`) a failed request is tried again
//!   after 1 s and 10 s, then written to `DEAD_LETTER_TOPIC`. Without this topic it is tried again without end, at least every
//!   minute, and `/ready` names it. It holds up the requests with its key only, and the committed offset: a restart repeats
//!   everything behind it.
//! - **Bounds.** A partition is not polled while 10,000 of its requests are not done, or 64 MiB of requests wait.
//! - **Replies** go only to the topics that `REPLY_TOPICS` allows (default: `PONG_TOPIC`). Other requests are not executed.
//! - **Shutdown.** No further requests are read. Those that were read are handled within `DRAIN_TIMEOUT`, their offsets are
//!   committed, and the worker leaves its group. What is left is repeated by the next owner.
//! - **Blocking.** Kafka is read on a thread of its own: a handler that blocks its thread delays other handlers, and costs no
//!   membership, except in [`Worker::answer`]. If a handler runs for longer than `HANDLER_STUCK_AFTER` (5 min), the worker is
//!   not ready, leaves its group without committing past it, and [`Worker::serve`] returns an error.
//!
//! `docs/worker-library.md` in the repository says more of each, and how to depend on this crate.
//!
//! # Side effects
//!
//! A worker reads environment variables, and no arguments. It sets no log subscriber and no panic hook: its log lines go to
//! `tracing`. Only [`Worker::serve`] catches signals.

// May depend on `kafka` and `shared`, and on no other crate of the workspace but `static-rt`, which the binary links. No type of
// theirs is public, but in `binary`. `engine` builds the parts; `consumer` runs a `partition_worker` per partition; `executor`
// runs the handlers; `reply_producers` sends the replies.

#![forbid(unsafe_code)]

mod attempts;
#[doc(hidden)]
pub mod binary;
mod consumer;
mod dead_letters;
mod delivery;
mod dispatch;
mod engine;
mod error;
mod executor;
mod expiry;
mod failure;
mod forward;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod handler;
mod heartbeats;
mod job;
mod metrics;
mod partition_worker;
mod ping;
mod reply;
mod reply_producers;
mod reply_topics;
mod request;
mod retry;
mod send_reply;
mod settings;
mod skipped;
mod truncated;
mod worker;

/// The status of a reply.
pub use http::StatusCode as Status;

use self::settings::Settings;
pub use self::{
    error::Error,
    failure::Failure,
    reply::Reply,
    request::{Request, RequestBuilder},
    worker::Worker,
};
