//! Compares variants of the system with each other, with what HTTP alone and Kafka alone cost, and with the goals.
//!
//! It starts what it measures and ends it again. Each round takes the variants in turn, so that whatever else the
//! machine does meets all of them; in contests two of them take turns. Only ratios mean anything, best those within a
//! contest or a round.

#[cfg(target_os = "linux")]
mod args;
#[cfg(target_os = "linux")]
mod ceiling;
#[cfg(target_os = "linux")]
mod child;
#[cfg(target_os = "linux")]
mod engine;
#[cfg(target_os = "linux")]
mod floor;
#[cfg(target_os = "linux")]
mod goals;
#[cfg(target_os = "linux")]
mod json;
#[cfg(target_os = "linux")]
mod machine;
#[cfg(target_os = "linux")]
mod meter;
#[cfg(target_os = "linux")]
mod plan;
#[cfg(target_os = "linux")]
mod plots;
#[cfg(target_os = "linux")]
mod results;
#[cfg(target_os = "linux")]
mod scale;
#[cfg(target_os = "linux")]
mod session;
#[cfg(target_os = "linux")]
mod tables;
#[cfg(target_os = "linux")]
mod topic;
#[cfg(target_os = "linux")]
mod variant;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    args::main()
}

/// It reads `/proc`.
#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
