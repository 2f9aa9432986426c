//! The broker over real sockets, with rskafka and with bare frames.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test may panic")]

mod api_versions;
mod consumer_groups;
mod faults;
mod fetch;
mod malformed_requests;
mod rskafka;
mod support;
