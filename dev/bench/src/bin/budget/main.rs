//! Counts what a request costs in allocations, bytes to and from Kafka, and batches.
//!
//! Gateway, worker and built-in broker run in this process, gateway and worker on a thread of their own each. No figure
//! depends on time: on the same sources they are the same on every machine, so a test can bound them.
//!
//! One JSON object goes to stdout.

#![forbid(unsafe_code)]

mod component;
mod fixture;
mod proxy;

use std::io::{self, Write};

fn main() -> anyhow::Result<()> {
    let figures = fixture::measure()?;
    writeln!(io::stdout().lock(), "{figures}")?;
    Ok(())
}
