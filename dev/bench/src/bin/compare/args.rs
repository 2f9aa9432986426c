//! The command line, and what becomes of the results.

use std::{
    fs,
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result};
use broker::Broker;
use clap::{Parser, Subcommand};
use shared::signals::Signals;

use crate::{ceiling, plan::Plan, plots, session, tables};

/// Compares gateway and worker with HTTP alone, Kafka alone and other systems, and judges the goals.
///
/// Everything that is measured is started, and ended again: both builds of the pair, on real Kafka and on the built-in
/// broker. The exit code says whether it could be measured, not whether goals were met.
#[derive(Debug, Parser)]
#[command(name = "compare", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// Only the most important ratios, in less than a minute
    #[arg(long)]
    quick: bool,

    /// Where table, JSON and plots go
    #[arg(long, value_name = "DIR", default_value = "dev/bench/results")]
    out: PathBuf,

    /// Where the static build is; without one the build beside this binary is judged
    #[arg(long, value_name = "DIR", default_value = "dist")]
    pub(crate) static_dir: PathBuf,

    /// Not on real Kafka
    #[arg(long)]
    pub(crate) without_kafka: bool,

    /// Another system: a shell command that serves GET /ping on 127.0.0.1:$PORT and answers as the contract says, with
    /// `KAFKA_BROKERS`, `PING_TOPIC` and `PONG_TOPIC` set; names that begin with librdkafka, franz-go or
    /// sarama take part in goals
    #[arg(long, value_name = "NAME=COMMAND", value_parser = command)]
    pub(crate) command: Vec<(String, String)>,

    #[command(subcommand)]
    part: Option<Part>,
}

/// What it starts of itself.
#[derive(Debug, Subcommand)]
enum Part {
    /// HTTP alone
    #[command(hide = true)]
    HyperAlone { addr: SocketAddr },
    /// The in-memory broker
    #[command(hide = true)]
    BuiltInBroker { addr: SocketAddr },
}

pub(crate) fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to be done if stderr is gone.
            let _ = writeln!(io::stderr(), "compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    // Before anything is started: children have the limit, too.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let one_thread = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    match args.part {
        Some(Part::HyperAlone { addr }) => one_thread()?.block_on(ceiling::serve(addr)),
        Some(Part::BuiltInBroker { addr }) => one_thread()?.block_on(async {
            Broker::bind(addr).await?.run(std::future::pending()).await;
            Ok(())
        }),
        None => one_thread()?.block_on(compare(args)),
    }
}

async fn compare(args: &Args) -> Result<()> {
    let scratch = std::env::temp_dir().join(format!("pingpong-compare-{}", std::process::id()));
    fs::create_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
    let signals = Signals::catch()?;
    let plan = if args.quick { Plan::quick() } else { Plan::full() };
    let results = tokio::select! {
        results = session::run(args, plan, &scratch) => results,
        () = signals.shutdown() => Err(anyhow::anyhow!("interrupted")),
    }
    .with_context(|| format!("logs are in {}", scratch.display()))?;
    // It holds logs that nobody needs any more.
    let _ = fs::remove_dir_all(&scratch);
    if args.quick {
        write!(io::stdout().lock(), "{}", tables::ratios(&results)?)?;
        return Ok(());
    }
    let out = &args.out;
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let page = tables::page(&results, &plots::draw(&results, out)?)?;
    fs::write(out.join("run.md"), &page)?;
    fs::write(out.join("run.json"), format!("{:#}\n", results.to_json()))?;
    writeln!(
        io::stdout().lock(),
        "{page}\nin {}: run.md, run.json and the plots",
        out.display()
    )?;
    Ok(())
}

fn command(text: &str) -> Result<(String, String), String> {
    let parts = text
        .split_once('=')
        .filter(|(name, line)| !name.is_empty() && !line.is_empty());
    let (name, line) = parts.ok_or("allowed: NAME=COMMAND")?;
    Ok((name.to_owned(), line.to_owned()))
}
