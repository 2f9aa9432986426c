//! Broker, worker and gateway in one process, with TCP between them: a first try without anything to install.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use shared::process;

mod parts;
mod settings;
mod welcome;

fn main() -> ExitCode {
    process::run(parts::run)
}
