//! An in-memory, single-node Kafka broker for development and tests. It is not for production: it keeps nothing, knows no
//! security, and has one replica of everything.
//!
//! It speaks enough of the protocol for rskafka, librdkafka, franz-go and the Java client to create topics, produce, fetch,
//! commit positions and share partitions in a group (KIP-848); `versions` has the list. Clients cannot tell it from Apache
//! Kafka by what it answers, except for what it does not serve: transactions, the classic group protocol, subscriptions by
//! pattern, assignors other than `uniform`, quotas, access control.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! let broker = broker::Broker::bind("127.0.0.1:0").await?;
//! let bootstrap = broker.local_addr().to_string();
//! let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
//! let running = tokio::spawn(broker.run(async { drop(stopped.await) }));
//! // … clients connect to `bootstrap` …
//! drop(stop);
//! running.await?;
//! # Ok(())
//! # }
//! ```
//!
//! With the Cargo feature `faults` it also fails on demand: see `Faults`.

#![forbid(unsafe_code)]

mod batch;
mod call;
mod cluster;
mod config;
mod connection;
#[cfg(feature = "faults")]
mod faults;
#[cfg(not(feature = "faults"))]
#[path = "no_faults.rs"]
mod faults;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod groups;
mod handlers;
mod log;
mod partition;
mod producers;
mod reply;
mod server;
mod shape;
mod staged;
mod topics;
mod versions;

#[cfg(feature = "faults")]
pub use crate::faults::{Faults, Poison};
pub use crate::{config::Config, server::Broker};
#[cfg(feature = "faults")]
pub use kafka_protocol::{error::ResponseError, messages::ApiKey};
