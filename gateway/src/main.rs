//! The gateway's process.

use std::process::ExitCode;

use gateway::{Gateway, Settings};
use shared::process;

fn main() -> ExitCode {
    process::run(async |settings: Settings, signals| {
        let gateway = Gateway::bind(settings).await?;
        gateway.run(signals.shutdown()).await?;
        Ok(())
    })
}
