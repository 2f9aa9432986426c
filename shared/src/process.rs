//! The life of a process of ours: configuration, logs, runtime, serve, exit code.

use std::{error::Error, net::SocketAddr, process::ExitCode};

use tracing::error;

use crate::{
    admin,
    config::{self, Command, Common},
    error_chain::ErrorChain,
    logging,
    signals::Signals,
};

/// Why a process cannot start or go on.
pub type Fatal = Box<dyn Error + Send + Sync>;

/// The settings of a process.
pub trait Settings: clap::Parser {
    /// What it has in common with the others.
    fn common(&self) -> &Common;

    /// Where its admin listener is.
    fn admin_addr(&self) -> SocketAddr;

    /// What it does instead of serving.
    fn command(&self) -> Option<Command>;

    /// Checks that the settings agree with each other.
    ///
    /// # Errors
    /// The contradiction, on one line.
    fn validate(&self) -> Result<(), String> {
        self.common().validate()
    }
}

/// Runs a process to its end. Exit code 0 after a shutdown, 64 for a bad configuration, 1 for anything else.
pub fn run<S, F>(serve: impl FnOnce(S, Signals) -> F) -> ExitCode
where
    S: Settings,
    F: Future<Output = Result<(), Fatal>>,
{
    let settings = match config::parse::<S>() {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    if let Err(line) = settings.validate() {
        return config::usage_error(&line);
    }
    let _log = logging::init(&settings.common().rust_log, settings.common().log_format);
    // One thread: it beats two where the broker shares the machine, because a batch then needs no other thread.
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = built.map_err(Fatal::from).and_then(|runtime| {
        let ended = runtime.block_on(async {
            match settings.command() {
                Some(Command::Healthcheck) => Ok(admin::healthcheck(settings.admin_addr()).await),
                None => {
                    let signals = Signals::catch()?;
                    serve(settings, signals).await?;
                    Ok(ExitCode::SUCCESS)
                }
            }
        });
        // Not dropped: that would wait for a look-up of a broker's name, and a name server may take its time.
        runtime.shutdown_background();
        ended
    });
    ended.unwrap_or_else(|cause| {
        error!("{}", ErrorChain(&*cause));
        ExitCode::FAILURE
    })
}
