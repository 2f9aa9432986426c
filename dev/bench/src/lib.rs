//! A load generator for the gateway that checks every response against its own request.
//!
//! A [`Load`] says what to send, [`Load::run`] sends it and returns a [`Report`]. The binary of the same name is a
//! command line around the two; tests use the library.
//!
//! # Closed loop and open loop
//!
//! *Closed loop* ([`Mode::Closed`]): each connection has one request in flight and sends the next one after the response.
//! A slow server gets fewer requests, so this measures the throughput at a number of connections.
//!
//! *Open loop* ([`Mode::Open`]): request `i` is due at `begin + i / rate`. Its latency counts from that instant, not from
//! the instant of sending, so there is no coordinated omission: when all connections are busy the wait for one counts. A
//! request that finds no connection within the timeout is not sent, and counted as that.
//!
//! In both, the latency contains a reconnect that the request needs, and the time of the generator itself, which runs on
//! one thread. The histogram contains right responses only; every other outcome has a count of its own.
//!
//! # Checks
//!
//! Each `POST` has a name and a value of its own, so a response to another request is detected. Wrong responses count
//! during the warm-up too.
//!
//! # Limits
//!
//! The target must be a loopback address. Every run ends: no request is due after the end, and each one waits at most
//! [`Load::timeout`] for a connection and as long again for its response.

#![forbid(unsafe_code)]

mod client;
mod connection;
mod deadline;
mod duplicates;
mod load;
mod outcome;
mod pacer;
mod recorder;
mod report;
mod request;
mod request_log;
mod response;
mod run;
mod timer;

pub use self::{
    load::{Connections, Load, LoadError, Mode, RequestKind, Until},
    outcome::{Outcome, OutcomeCounts, Wrong},
    report::Report,
    request_log::{RequestEntry, RequestLog},
};

#[cfg(test)]
mod tests;
