//! The gateway's process.

use std::process::ExitCode;

use gateway::{Gateway, Settings};
use shared::process;
use tracing::warn;

fn main() -> ExitCode {
    process::run(async |settings: Settings, signals| {
        // Each connection is a descriptor.
        if let Err(cause) = rlimit::increase_nofile_limit(u64::MAX) {
            warn!(%cause, "the descriptor limit stays as it is");
        }
        let gateway = Gateway::bind(settings).await?;
        gateway.run(signals.shutdown()).await?;
        Ok(())
    })
}
