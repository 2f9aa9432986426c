//! What the `main` of each binary calls: it parses the configuration, starts the logs and the runtime, and serves.
//!
//! Only a binary may call [`run`]. It changes the process: it sets the global subscriber and the panic hook, and decides
//! the exit code.

use std::{error::Error, net::SocketAddr, process::ExitCode};

use tracing::{error, info, warn};

use crate::{
    admin,
    config::{self, Command, Common},
    error_chain::ErrorChain,
    logging,
    signals::Signals,
};

/// Why a process cannot start or continue.
pub type Fatal = Box<dyn Error + Send + Sync>;

/// The settings of a binary.
pub trait Settings: clap::Parser {
    /// The settings that all binaries have.
    fn common(&self) -> &Common;

    /// The address of its admin listener.
    fn admin_addr(&self) -> SocketAddr;

    /// The subcommand; `None` to serve.
    fn command(&self) -> Option<Command>;

    /// Runs a subcommand that needs neither the other settings nor the logs; `None` when there is none.
    fn run_alone(&self) -> Option<ExitCode> {
        None
    }

    /// Checks that the settings agree with each other.
    ///
    /// # Errors
    /// The contradiction, on one line.
    fn validate(&self) -> Result<(), String> {
        self.common().validate()
    }
}

/// Runs a process to its end. Exit code 0 after a shutdown, 64 for a bad configuration, 1 for any other error.
pub fn run<S, F>(serve: impl FnOnce(S, Signals) -> F) -> ExitCode
where
    S: Settings,
    F: Future<Output = Result<(), Fatal>>,
{
    let settings = match config::parse::<S>() {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    if let Some(code) = settings.run_alone() {
        return code;
    }
    if let Err(line) = settings.validate() {
        return config::usage_error(&line);
    }
    let _log = logging::init(&settings.common().rust_log, settings.common().log_format);
    logging::log_panics();
    // One thread. Where the broker shares the machine it beats two, because no batch wakes a second thread.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(Fatal::from).and_then(|runtime| {
        let result = runtime.block_on(async {
            match settings.command() {
                Some(Command::Healthcheck) => Ok(admin::healthcheck(settings.admin_addr()).await),
                None => {
                    let signals = Signals::catch()?;
                    if let Some(variables) = config::misspelled_variables::<S>() {
                        warn!(variables, "environment variables that resemble settings are ignored");
                    }
                    let kafka = &settings.common().kafka;
                    info!(
                        kafka_brokers = kafka.kafka_brokers.join(","),
                        security_protocol = %kafka.kafka_security_protocol,
                        "starting"
                    );
                    serve(settings, signals).await?;
                    Ok(ExitCode::SUCCESS)
                }
            }
        });
        // Dropping the runtime would wait for blocking tasks, such as a DNS lookup of a broker without an answer.
        runtime.shutdown_background();
        result
    });
    result.unwrap_or_else(|cause| {
        error!("{}", ErrorChain(&*cause));
        ExitCode::FAILURE
    })
}
