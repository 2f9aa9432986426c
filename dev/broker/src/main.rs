//! The binary of the in-memory broker, for development.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Context;
use broker::{Broker, Config};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// An in-memory Kafka broker for development and tests. Nothing is persisted.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Host and port to listen on.
    #[arg(
        long,
        env = "BROKER_ADDR",
        default_value = "127.0.0.1:9092",
        value_parser = host_and_port
    )]
    addr: (String, u16),
    /// Host and port that clients are told to connect to. Default: the address that they connected to.
    #[arg(long, env = "BROKER_ADVERTISED", value_parser = host_and_port)]
    advertised: Option<(String, u16)>,
    /// Create missing topics when clients ask for their metadata.
    #[arg(long, env = "BROKER_AUTO_CREATE")]
    auto_create: bool,
    /// Log level or filter, for example `debug` or `broker=debug`.
    #[arg(long, env = "RUST_LOG", default_value = "info")]
    log: Targets,
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Also the output of --help and --version. An error of stderr cannot be reported.
            let _ = error.print();
            // 64 is EX_USAGE of sysexits.h.
            return if error.use_stderr() {
                ExitCode::from(64)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    tracing_subscriber::registry()
        .with(args.log.clone())
        .with(tracing_subscriber::fmt::layer())
        .init();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(args: Args) -> anyhow::Result<()> {
    let mut config = Config::default();
    config.advertised = args.advertised;
    config.auto_create_topics = args.auto_create;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (host, port) = args.addr;
    let broker = Broker::bind_with((host.as_str(), port), config)
        .await
        .with_context(|| format!("cannot listen on {host}:{port}"))?;
    let stopped = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    broker.run(stopped).await;
    Ok(())
}

fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let (host, port) = text.rsplit_once(':').ok_or("want host:port")?;
    let port = port.parse().map_err(|_| format!("{port:?} is no port"))?;
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}
