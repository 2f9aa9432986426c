//! The command line.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    broker::{self, Broker},
    machine::Machine,
    report,
    rounds::Rounds,
    variant::{Program, Requests, Variant},
};

/// Where `make static` puts its binaries.
const STATIC_BINARIES: &str = "dist";

/// Measures builds of gateway and worker, and other programs, in alternating rounds.
///
/// All processes are started, with topics of their own, at the beginning of each round and killed at its end. Ratios are
/// to the first variant, computed within each round. Ctrl-C ends the run and reports the rounds so far.
#[derive(Debug, Parser)]
#[command(name = "compare", version)]
pub(crate) struct Args {
    /// A directory with the binaries `gateway` and `worker`; dist/ or the release build if there is none
    #[arg(long, value_name = "NAME=DIR", value_parser = assignment)]
    pair: Vec<(String, String)>,

    /// A shell command that serves GET /ping on 127.0.0.1:$PORT, with `KAFKA_BROKERS`, `PING_TOPIC` and `PONG_TOPIC` set
    #[arg(long, value_name = "NAME=COMMAND", value_parser = assignment)]
    command: Vec<(String, String)>,

    /// Measures each pair twice, with POST requests of 200 bytes: to /ping, and to a route with two path parameters and four
    /// forwarded headers
    #[arg(long, conflicts_with = "command")]
    route: bool,

    /// Numbers of connections; each has one request in flight at a time
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,64,256,1024")]
    connections: Vec<usize>,

    /// How often each variant is measured at each number of connections
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,

    /// Length of a measurement; half a second of warm-up comes before it
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    seconds: f64,

    /// What the variants talk to; `auto` takes the built-in broker where scripts/kafka cannot start Kafka
    #[arg(long, value_enum, default_value_t = BrokerChoice::Auto)]
    broker: BrokerChoice,

    /// Where run.json, throughput.svg and p99.svg are written
    #[arg(long, value_name = "DIR", default_value = "dev/bench/results")]
    out: PathBuf,

    /// Runs the built-in broker; this is how the program starts it in a process of its own
    #[arg(long, value_name = "ADDR", hide = true)]
    serve_broker: Option<SocketAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum BrokerChoice {
    Auto,
    Kafka,
    BuiltIn,
}

pub(crate) fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(&format!("compare: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// A line of progress on stderr.
pub(crate) fn log(line: &str) {
    // A closed stderr must not end the run.
    let _ = writeln!(io::stderr(), "{line}");
}

fn run(args: &Args) -> Result<()> {
    // Children inherit the limit.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match args.serve_broker {
        Some(addr) => runtime.block_on(broker::serve(addr)),
        None => runtime.block_on(compare(args)),
    }
}

async fn compare(args: &Args) -> Result<()> {
    ensure!(args.rounds > 0, "--rounds must be at least 1");
    let measured = Duration::try_from_secs_f64(args.seconds).context("--seconds")?;
    ensure!(!measured.is_zero(), "--seconds must be above 0");
    ensure!(!args.connections.contains(&0), "--connections must be at least 1 each");
    let variants = args.variants()?;
    let machine = Machine::read();
    let scratch = std::env::temp_dir().join(format!("pingpong-compare-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).with_context(|| scratch.display().to_string())?;

    let mut terminate = signal(SignalKind::terminate())?;
    let broker = args.start_broker(&scratch).await?;
    log(&format!("broker: {}", broker.name));
    let mut rounds = Rounds::new(&variants, &args.connections, measured, &broker, &scratch);
    let result = tokio::select! {
        result = rounds.run(args.rounds) => result,
        _ = tokio::signal::ctrl_c() => Err(anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow!("terminated")),
    };
    let measurements = rounds.into_measurements();
    let names: Vec<_> = variants.iter().map(|variant| variant.name.as_str()).collect();
    report::write(&args.out, &machine, &broker.name, &names, args.seconds, &measurements)?;
    result.with_context(|| format!("logs are in {}", scratch.display()))?;
    drop(broker);
    // Left-over logs are no error.
    let _ = std::fs::remove_dir_all(&scratch);
    Ok(())
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("allowed: NAME=VALUE".to_owned()),
    }
}

/// The static build, or else the release build beside this binary.
fn default_pair() -> Result<Program> {
    let beside = std::env::current_exe()?.with_file_name("");
    let directories = [PathBuf::from(STATIC_BINARIES), beside];
    let directory = directories
        .into_iter()
        .find(|directory| directory.join("gateway").exists() && directory.join("worker").exists())
        .context("no gateway and worker: run `make static` or `cargo build --release`, or pass --pair NAME=DIR")?;
    Program::pair(&directory)
}

// === impl Args ===

impl Args {
    fn variants(&self) -> Result<Vec<Variant>> {
        let mut programs = Vec::new();
        if self.pair.is_empty() {
            programs.push(("ours".to_owned(), default_pair()?));
        }
        for (name, directory) in &self.pair {
            let program = Program::pair(Path::new(directory)).with_context(|| format!("--pair {name}"))?;
            programs.push((name.clone(), program));
        }
        for (name, command) in &self.command {
            programs.push((name.clone(), Program::Command(command.clone())));
        }
        let mut variants = Vec::new();
        for (name, program) in programs {
            if self.route {
                for (of, requests) in [("/ping", Requests::PostPing), ("route", Requests::PostRoute)] {
                    let (name, program) = (format!("{name} {of}"), program.clone());
                    variants.push(Variant {
                        name,
                        program,
                        requests,
                    });
                }
            } else {
                let requests = Requests::GetPing;
                variants.push(Variant {
                    name,
                    program,
                    requests,
                });
            }
        }
        let names: std::collections::BTreeSet<_> = variants.iter().map(Variant::topic_suffix).collect();
        ensure!(names.len() == variants.len(), "the names of the variants must differ");
        Ok(variants)
    }

    async fn start_broker(&self, scratch: &Path) -> Result<Broker> {
        match self.broker {
            BrokerChoice::BuiltIn => Broker::built_in(scratch).await,
            BrokerChoice::Kafka => Broker::kafka(scratch),
            BrokerChoice::Auto => match Broker::kafka(scratch) {
                Ok(broker) => Ok(broker),
                Err(error) => {
                    log(&format!(
                        "compare: no real Kafka ({error:#}), so the built-in broker is used"
                    ));
                    Broker::built_in(scratch).await
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once("compare").chain(line.iter().copied()))
    }

    #[test]
    fn command_line_defaults_to_five_rounds_at_four_connection_counts() {
        let args = parse(&[]).unwrap();
        assert_eq!((args.rounds, args.connections), (5, vec![1, 64, 256, 1024]));
    }

    #[test]
    fn variants_keep_the_order_of_pairs_then_commands() {
        let own = std::env::temp_dir().join(format!("compare-args-{}", std::process::id()));
        std::fs::create_dir_all(&own).unwrap();
        for name in ["gateway", "worker"] {
            std::fs::write(own.join(name), "").unwrap();
        }
        let pair = |name: &str| format!("{name}={}", own.display());
        let args = parse(&[
            "--command",
            "go=exec x=y",
            "--pair",
            &pair("before"),
            "--pair",
            &pair("after"),
        ]);
        let names: Vec<_> = args
            .unwrap()
            .variants()
            .unwrap()
            .into_iter()
            .map(|variant| variant.name)
            .collect();
        assert_eq!(names, ["before", "after", "go"]);
        let routes = parse(&["--route", "--pair", &pair("after")])
            .unwrap()
            .variants()
            .unwrap();
        let routes: Vec<_> = routes
            .into_iter()
            .map(|variant| (variant.name, variant.requests))
            .collect();
        assert_eq!(
            routes,
            [
                ("after /ping".to_owned(), Requests::PostPing),
                ("after route".to_owned(), Requests::PostRoute)
            ]
        );
        let twice = parse(&["--pair", &pair("a b"), "--pair", &pair("a-b")]).unwrap();
        assert!(twice.variants().is_err(), "both would use the same topics");
        std::fs::remove_dir_all(&own).unwrap();
    }

    #[test]
    fn pair_without_binaries_is_an_error() {
        let args = parse(&["--pair", "before=/nonexistent"]).unwrap();
        let error = format!("{:#}", args.variants().unwrap_err());
        assert!(
            error.contains("--pair before") && error.contains("/nonexistent"),
            "{error}"
        );
        assert!(parse(&["--pair", "before"]).is_err());
    }
}
