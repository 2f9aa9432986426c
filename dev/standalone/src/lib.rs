//! Broker, gateway and worker in one process: `make run`, and tests of a service with real HTTP requests.
//!
//! A test starts the service behind the gateway and its own routes, on an in-memory broker. It needs no Kafka and no fixed
//! port, so tests run beside each other:
//!
//! ```no_run
//! use standalone::Standalone;
//! use worker::{Failure, Reply, Request, Worker};
//!
//! async fn place(request: Request) -> Result<Reply, Failure> {
//!     let order: serde_json::Value = request.json()?;
//!     Ok(Reply::json(&order)?.status(201))
//! }
//!
//! /// What `main` serves, too.
//! fn service() -> Worker {
//!     Worker::from_env().topic("orders", place)
//! }
//!
//! #[tokio::test]
//! async fn order_is_created() {
//!     let standalone = Standalone::start("routes.toml", service()).await.unwrap();
//!     let url = standalone.url("/orders");
//!     // … POST to the URL with any HTTP client …
//! }
//! ```
//!
//! `tests/service.rs` is a complete example. The crate is a dev-dependency by git tag:
//!
//! ```toml
//! [dev-dependencies]
//! standalone = { git = "https://…/ping-pong", tag = "v0.1.0" }
//! ```

// May depend on every crate: nothing of it ships.

#![forbid(unsafe_code)]

#[doc(hidden)]
pub mod echo;
#[doc(hidden)]
pub mod parts;
mod testing;

pub use self::testing::Standalone;
