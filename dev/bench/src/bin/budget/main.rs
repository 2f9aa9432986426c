//! What a request costs in things that can be counted: allocations, bytes to Kafka, frames.
//!
//! Gateway, worker and built-in broker run in this process, each on a thread and a runtime of its own, so that the
//! allocations of each are counted apart. None of the figures depends on time: on the same sources they are the same
//! on a slow machine and on a fast one, which is why a test can watch them.
//!
//! One JSON object goes to stdout.

mod part;
mod proxy;
mod scene;

use std::{
    io::{self, Write},
    process::ExitCode,
};

fn main() -> ExitCode {
    let counted = scene::count().and_then(|figures| Ok(writeln!(io::stdout().lock(), "{figures}")?));
    match counted {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to be done if stderr is gone.
            let _ = writeln!(io::stderr(), "budget: {error:#}");
            ExitCode::FAILURE
        }
    }
}
