//! An in-memory, single-process Kafka broker for development and tests. It is not for production: nothing is persisted,
//! there is no security, and every partition has one replica.
//!
//! rskafka, librdkafka, franz-go and the Java client can create topics, produce, fetch, commit offsets and consume in a
//! group (KIP-848); `apis` lists the served APIs and versions. Responses match Apache Kafka's. Not served: transactions,
//! the classic group protocol, regex subscriptions, assignors other than `uniform`, quotas, ACLs.
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
//! Tests inject faults with [`Broker::faults`].

#![forbid(unsafe_code)]

mod apis;
mod batch;
mod cluster;
mod config;
mod connection;
mod faults;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod groups;
mod handlers;
mod layout;
mod log;
mod partition;
mod producer_state;
mod request;
mod server;
mod topics;

pub use kafka_protocol::{error::ResponseError, messages::ApiKey};

pub use crate::{
    config::Config,
    faults::{Faults, Poison},
    server::Broker,
};
