//! Compares builds of the gateway and worker, and other programs, in alternating rounds (`make bench`).
//!
//! The speed of a machine drifts by tens of percent within minutes. Each round therefore measures all variants one after
//! the other, and results are compared within a round only. Rounds rotate the order of the variants.

#![forbid(unsafe_code)]

#[cfg(target_os = "linux")]
mod args;
#[cfg(target_os = "linux")]
mod broker;
#[cfg(target_os = "linux")]
mod child;
#[cfg(target_os = "linux")]
mod cpu;
#[cfg(target_os = "linux")]
mod machine;
#[cfg(target_os = "linux")]
mod plots;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod rounds;
#[cfg(target_os = "linux")]
mod variant;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    args::main()
}

/// CPU times come from `/proc`.
#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
