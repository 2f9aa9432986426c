//! The worker's process.

use std::process::ExitCode;

use shared::process;
use worker::{Settings, Worker};

#[cfg(target_env = "musl")]
#[global_allocator]
static HEAP: shared::heap::Heap = shared::heap::Heap::new();

fn main() -> ExitCode {
    process::run(async |settings: Settings, signals| {
        let worker = Worker::bind(settings).await?;
        worker.run(signals.shutdown()).await?;
        Ok(())
    })
}
