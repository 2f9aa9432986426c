//! What the gateway and the worker have in common: the contract's message, the Kafka seam, and what every
//! process of ours does the same way (configuration, logs, readiness, admin listener, shutdown).

pub mod admin;
pub mod client;
pub mod complaints;
pub mod config;
#[cfg(target_os = "linux")]
pub mod heap;
pub mod kafka;
#[cfg(any(all(target_env = "musl", not(debug_assertions)), test))]
mod memcmp;
#[cfg(all(target_arch = "x86_64", any(all(target_env = "musl", not(debug_assertions)), test)))]
mod memcpy;
pub mod message;
pub mod process;
pub mod readiness;
pub mod server;
pub mod shutdown;
pub mod smallest;
pub mod tasks;
pub mod telemetry;
pub mod wire;
