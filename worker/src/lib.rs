//! The worker: reads requests from `ping`, answers each by a pure function, and writes the replies to `pong`.

mod answer;
mod complaints;
mod metrics;
mod requests;
mod settings;
mod worker;

pub use self::{
    settings::{Settings, StartFrom},
    worker::Worker,
};
