//! What the end-to-end tests are made of: an engine that speaks Kafka's protocol, the real binaries as processes,
//! and views of HTTP and of the topics that share no code with them.
//!
//! - Everything that waits has a bound, and there is no sleep but the pause between two looks at a condition.
//! - A test that fails shows the logs of its processes. Whatever a test starts ends with it.

#![forbid(unsafe_code)]

pub mod binaries;
mod built_in;
pub mod cluster;
mod connections;
pub mod descriptors;
pub mod engine;
pub mod environment;
pub mod footprint;
pub mod http;
pub mod kcat;
pub mod nowhere;
pub mod process;
pub mod scene;
pub mod topic;
pub mod wait;
