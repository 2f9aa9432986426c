//! The command line of the load generator.

#![forbid(unsafe_code)]

mod args;

use anyhow::{Context, Result};
use args::Args;
use bench::Report;
use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

/// The exit code of a shell for a process that SIGINT ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let args = match Args::read(std::env::args_os()) {
        Ok(args) => args,
        Err(code) => return code,
    };
    // With a low limit connects fail, and the report names the error.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    run(&args).unwrap_or_else(|error| {
        // A closed stderr is no error.
        let _ = writeln!(io::stderr(), "bench: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(args: &Args) -> Result<ExitCode> {
    // One thread leaves the other cores to the measured processes.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("runtime")?;
    let report = runtime.block_on(args.load().run_until(interrupt()))?;
    match args.json.as_deref() {
        Some(path) if path == Path::new("-") => {
            write!(io::stderr().lock(), "{report}").context("stderr")?;
            writeln!(io::stdout().lock(), "{}", report.to_json()).context("stdout")?;
        }
        path => {
            write!(io::stdout().lock(), "{report}").context("stdout")?;
            if let Some(path) = path {
                std::fs::write(path, format!("{}\n", report.to_json()))
                    .with_context(|| format!("--json {}", path.display()))?;
            }
        }
    }
    Ok(exit_code(&report))
}

/// Never, on a system without Ctrl-C.
async fn interrupt() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}

fn exit_code(report: &Report) -> ExitCode {
    if report.wrong_total() > 0 {
        ExitCode::FAILURE
    } else if report.interrupted {
        ExitCode::from(INTERRUPTED)
    } else if report.outcomes.ok == 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
