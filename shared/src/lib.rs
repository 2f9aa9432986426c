//! The contract between gateway and worker (message, topics, record headers), and what every process needs:
//! configuration, logs, readiness, admin listener, HTTP server, shutdown.
//!
//! - It depends on no other crate of this workspace. `kafka` depends on it; `gateway` and `worker` depend on both.
//! - It has no side effect on its process. The two exceptions are part of a binary's `main`: [`process::run`] (logs, panic
//!   hook, exit code) and [`signals::Signals`] (signal handlers, exit at a second signal).

#![forbid(unsafe_code)]

pub mod admin;
pub mod config;
pub mod error_chain;
pub mod headers;
pub mod heartbeat;
pub mod http_client;
pub mod log_limiter;
pub mod logging;
pub mod message;
pub mod outage_log;
pub mod process;
pub mod readiness;
pub mod record_headers;
pub mod server;
pub mod signals;
pub mod tasks;
pub mod varint;
pub mod windowed_min;
