//! The gateway's process.

use std::process::ExitCode;

use gateway::{Gateway, Settings};
use shared::process;

#[cfg(target_env = "musl")]
#[global_allocator]
static HEAP: shared::heap::Heap = shared::heap::Heap::new();

fn main() -> ExitCode {
    process::run(async |settings: Settings, signals| {
        let gateway = Gateway::bind(settings).await?;
        gateway.run(signals.shutdown()).await?;
        Ok(())
    })
}
