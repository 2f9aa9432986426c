//! The gateway binary.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use gateway::{Gateway, Settings};
use shared::process;

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: static_rt::Allocator = static_rt::Allocator::new();

fn main() -> ExitCode {
    process::run(async |settings: Settings, signals| {
        let gateway = Gateway::bind(settings).await?;
        gateway.run(signals.shutdown()).await?;
        Ok(())
    })
}
