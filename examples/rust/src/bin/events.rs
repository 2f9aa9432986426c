//! A service behind the route `POST /events`, for which no caller waits (`reply = false`).
//!
//! An event that fails is tried again after 1 s and 10 s. Then it is written to `DEAD_LETTER_TOPIC` with the header `:error`.

use std::{env, io};

use serde::Deserialize;
use worker::{Failure, Reply, Request, Worker};

#[derive(Debug, Deserialize)]
struct Event {
    kind: String,
}

async fn record(request: Request) -> Result<Reply, Failure> {
    let event: Event = request.json()?;
    tracing::info!(event.kind, offset = request.offset(), "recorded");
    Ok(Reply::no_content())
}

#[tokio::main]
async fn main() -> Result<(), worker::Error> {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    let topic = env::var("TOPIC").unwrap_or_else(|_| "events".to_owned());
    Worker::from_env().topic(&topic, record).serve().await
}
