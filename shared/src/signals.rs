//! SIGINT and SIGTERM for binaries: the first signal asks for a shutdown, a second one ends the process at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::logging;

/// Catches SIGINT and SIGTERM from its creation on.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

// === impl Signals ===

impl Signals {
    /// Installs the handlers. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Resolves at the first signal. From then on a second one exits the process with code 128 + its number.
    pub async fn shutdown(mut self) {
        let first = self.next().await;
        info!(
            signal = first.as_raw_value(),
            "shutting down; a second signal ends it at once"
        );
        tokio::spawn(async move {
            let second = self.next().await;
            warn!(signal = second.as_raw_value(), "ended by a second signal");
            logging::finish();
            std::process::exit(128 + second.as_raw_value());
        });
    }

    async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
        }
    }
}
