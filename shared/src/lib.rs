//! What the gateway and the worker have in common: the contract's message, the Kafka seam, and what every
//! process of ours does the same way (configuration, logs, readiness, admin listener, shutdown).

#![forbid(unsafe_code)]

pub mod admin;
pub mod config;
pub mod error_chain;
pub mod headers;
pub mod http_client;
pub mod log_limiter;
pub mod logging;
pub mod message;
pub mod process;
pub mod readiness;
pub mod server;
pub mod signals;
pub mod tasks;
pub mod windowed_min;
