//! The parts of the end-to-end tests: brokers, processes of the real binaries, and clients for HTTP and Kafka.
//!
//! - The clients share no code with the gateway and the worker.
//! - Every wait has a bound and a condition.
//! - A failed test prints the logs of its processes. Everything that a test starts ends with it.

#![forbid(unsafe_code)]

pub mod binaries;
mod built_in;
pub mod closed_port;
pub mod cluster;
mod connections;
pub mod descriptors;
pub mod engine;
pub mod environment;
pub mod examples;
pub mod fixture;
pub mod footprint;
pub mod forgetting_proxy;
pub mod http;
pub mod kcat;
pub mod nginx;
pub mod process;
pub mod routes;
pub mod secure_cluster;
pub mod topic;
pub mod wait;
