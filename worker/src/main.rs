//! The worker binary.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use shared::process;
use worker::binary::{self, Settings};

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: static_rt::Allocator = static_rt::Allocator::new();

fn main() -> ExitCode {
    process::run(async |settings: Settings, signals| binary::bind(settings).await?.run(signals.shutdown()).await)
}
