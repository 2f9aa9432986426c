//! A load generator for the gateway that checks every answer against its own request.
//!
//! A [`Load`] says what to send, [`Load::run`] sends it and gives back a [`Report`]. The binary of the same name is a
//! thin command line around the two; tests embed them.
//!
//! # What is measured
//!
//! *Closed loop* ([`Mode::Closed`]): each connection has one request in flight at a time and sends the next as soon
//! as the answer is there. A slow server is asked less often, so this finds the throughput at a given number of
//! connections; its latency says nothing about callers who come whether or not others still wait.
//!
//! *Open loop* ([`Mode::Open`]): request `i` is due at `begin + i / rate`, whatever became of the ones before it. Its
//! latency is measured from that instant and never from the instant of sending, so coordinated omission is not
//! possible: when all connections are busy the request waits for one, and the wait counts. A request that found no
//! connection within the timeout is given up unsent and counted as that.
//!
//! In both, a reconnect that a request needs counts into its latency, and so does the time that the generator itself
//! takes: it runs on one thread, and with many answers at hand at once the last one waits for the others. Only right
//! answers are in the histogram; everything else is an outcome with its own count.
//!
//! # What is checked
//!
//! Each `POST` carries a name and a value that no other request has, so that the answer of another caller cannot pass
//! for one's own. A wrong answer is the worst there is and is never tolerated: not even during the warm-up.
//!
//! # Limits
//!
//! Loopback only: this is no tool for anybody else's server. Every run ends by itself: no request is due after the end,
//! and from then on each may wait for a connection and for its answer, [`Load::timeout`] at most for either.

#![forbid(unsafe_code)]

mod alarm;
mod answer;
mod caller;
mod crew;
mod head;
mod journal;
mod json;
mod load;
mod outcomes;
mod report;
mod request;
mod schedule;
mod seen;
mod summary;
mod tally;
mod watchdog;
mod wire;

pub use self::{
    answer::Wrong,
    journal::{Entry, Fate, Journal},
    load::{Connections, Load, LoadError, Mode, Question, Until},
    outcomes::Outcomes,
    report::Report,
};
pub use hdrhistogram::Histogram;

#[cfg(test)]
mod tests;
