//! The broker over real sockets, with rskafka and with bare frames.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that goes wrong may panic"
)]

#[cfg(feature = "faults")]
mod faults;
mod fetch;
mod groups;
mod hostile;
mod rskafka_client;
mod support;
mod versions;
