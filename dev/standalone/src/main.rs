//! Runs broker, worker and gateway in one process, connected by TCP, to try the project without installing Kafka.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use shared::process;

mod run;
mod settings;
mod welcome;

fn main() -> ExitCode {
    process::run(run::run)
}
