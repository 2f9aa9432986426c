//! A session: starts everything, takes the variants in turn, round after round, and ends everything.

mod scale;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use bench::{Connections, Load, Mode, Question, Until};
use serde_json::Value;
use tokio::time::sleep;

use crate::{
    args::Args,
    engine::Engine,
    floor,
    goals::{self, HYPER},
    machine::Machine,
    plan::{Plan, Shape},
    results::{Results, Round},
    variant::{self, Setup, Variant},
};

/// Requests per second on connections that are to be idle: each of ten thousand is used, and used again before the
/// gateway's `HEADER_TIMEOUT` closes it.
const IDLE_RATE: f64 = 4_000.0;

/// Connections from which on a load is longer.
const MANY: usize = 10_000;

/// Descriptors of the generator that are not for connections.
const DESCRIPTORS: u64 = 64;

/// Everything that runs.
struct Session<'a> {
    args: &'a Args,
    /// Logs, and the node's data.
    scratch: &'a Path,
    plan: Plan,
    engines: Vec<Engine>,
    variants: Vec<Variant>,
    results: Results,
}

/// Runs it to its end.
pub(crate) async fn run(args: &Args, plan: Plan, scratch: &Path) -> Result<Results> {
    let mut session = Session::start(args, plan, scratch).await?;
    session.cold_starts().await?;
    session.warm_up().await?;
    for round in 1..=session.plan.rounds {
        say(&format!("round {round} of {}", session.plan.rounds));
        session.closed_round(round).await?;
    }
    session.contests().await?;
    session.open_rounds().await?;
    session.scale().await?;
    session.idle().await?;
    Ok(session.results)
}

// === impl Session ===

impl<'a> Session<'a> {
    async fn start(args: &'a Args, mut plan: Plan, scratch: &'a Path) -> Result<Self> {
        let machine = Machine::look();
        let mut notes = Vec::new();
        limit_connections(&mut plan, &mut notes);
        let mut engines = vec![Engine::built_in(scratch).await?];
        if args.without_kafka {
            notes.push("Not on real Kafka: it was asked for without.".to_owned());
        } else {
            match Engine::kafka(scratch) {
                Ok(kafka) => engines.insert(0, kafka),
                Err(error) => notes.push(format!("Not on real Kafka: {error:#}.")),
            }
        }
        let mut session = Self {
            args,
            scratch,
            plan,
            engines,
            variants: Vec::new(),
            results: Results {
                machine,
                variants: Vec::new(),
                commands: Vec::new(),
                judged: String::new(),
                other_build: None,
                rounds: Vec::new(),
                floor: BTreeMap::new(),
                engine: "",
                cold_starts: BTreeMap::new(),
                at_rest: BTreeMap::new(),
                budget: budget(),
                scale: None,
                notes,
            },
        };
        session.start_variants().await?;
        Ok(session)
    }

    async fn start_variants(&mut self) -> Result<()> {
        let own = own_directory()?;
        let is_static = self.args.static_dir.join("gateway").exists();
        // The judged one first: it is what is shipped, on what it is meant for.
        let mut wanted = Vec::new();
        let last = self.engines.len() - 1;
        for (index, engine) in self.engines.iter().enumerate() {
            if is_static {
                let directory = self.args.static_dir.clone();
                wanted.push((
                    format!("static on {}", engine.name),
                    Setup::Pair { directory },
                    Some(index),
                ));
            }
            // The second build only once: it is there for the comparison with the first.
            if !is_static || index == 0 {
                let directory = own.clone();
                wanted.push((
                    format!("glibc on {}", engine.name),
                    Setup::Pair { directory },
                    Some(index),
                ));
            }
        }
        if is_static {
            let engine = self.engines.first().context("an engine")?.name;
            self.results.other_build = Some(format!("glibc on {engine}"));
        } else {
            let directory = self.args.static_dir.display();
            self.results
                .notes
                .push(format!("No static build in {directory}: the glibc build is judged."));
        }
        for (name, line) in &self.args.command {
            let index = Some(0).filter(|_| last > 0);
            wanted.push((name.clone(), Setup::Command(line.clone()), index.or(Some(last))));
        }
        wanted.push((HYPER.to_owned(), Setup::HyperAlone, None));
        for (name, setup, engine) in wanted {
            say(&format!("starting {name}"));
            let engine = engine.and_then(|it| self.engines.get(it));
            let variant = Variant::start(&name, &setup, engine, self.scratch).await?;
            if let Some(at_rest) = variant.at_rest {
                self.results.at_rest.insert(name.clone(), at_rest);
            }
            if variant.is_command {
                self.results.commands.push(name.clone());
            }
            self.results.variants.push(name);
            self.variants.push(variant);
        }
        self.results.judged = self.results.variants.first().cloned().unwrap_or_default();
        self.results.engine = self.engines.first().map_or("", |it| it.name);
        Ok(())
    }

    /// Of both builds on the first engine, in turn. The topics are there.
    async fn cold_starts(&mut self) -> Result<()> {
        let engine = self.engines.first().context("an engine")?;
        let mut pairs = vec![(self.results.judged.clone(), self.args.static_dir.clone())];
        match &self.results.other_build {
            Some(other) => pairs.push((other.clone(), own_directory()?)),
            None => pairs = vec![(self.results.judged.clone(), own_directory()?)],
        }
        for _ in 0..self.plan.cold_starts {
            for (name, directory) in &pairs {
                let took = variant::cold_start(name, directory, engine, self.scratch).await?;
                self.results.cold_starts.entry(name.clone()).or_default().push(took);
            }
        }
        Ok(())
    }

    /// Kafka's virtual machine, above all; what is measured of it is forgotten.
    async fn warm_up(&mut self) -> Result<()> {
        say("warming up");
        for (index, engine) in self.engines.iter().enumerate() {
            let on_engine = format!(" on {}", engine.name);
            let Some(variant) = self.variants.iter().find(|it| it.name.ends_with(&on_engine)) else {
                continue;
            };
            let length = if index == 0 {
                self.plan.engine_warmup
            } else {
                self.plan.measured
            };
            let mut load = self.load(variant, Mode::Closed { connections: 256 });
            load.until = Until::Elapsed(length);
            load.run().await?;
        }
        Ok(())
    }

    async fn closed_round(&mut self, round: usize) -> Result<()> {
        let judged = self.position(&self.results.judged);
        let mut variants: Vec<_> = (0..self.variants.len()).collect();
        // And back in the next round: who comes first has the machine as another load left it.
        if round.is_multiple_of(2) {
            variants.reverse();
        }
        for connections in self.plan.closed.clone() {
            for &index in &variants {
                if connections == 1 && Some(index) == judged {
                    self.floors().await?;
                }
                self.measure(index, Shape::Closed(connections), None).await?;
            }
        }
        Ok(())
    }

    /// Of all engines, that of the judged variant last: it is measured next.
    async fn floors(&mut self) -> Result<()> {
        for engine in self.engines.iter().rev() {
            let latency = floor::measure(&engine.brokers, self.plan.warmup, self.plan.measured).await;
            let latency = latency.with_context(|| format!("{} alone", engine.name))?;
            self.results.floor.entry(engine.name).or_default().push(latency);
        }
        Ok(())
    }

    /// The judged variant and one by which it is judged, directly after each other: the machine has another speed from one
    /// minute to the next.
    async fn contests(&mut self) -> Result<()> {
        let judged = self.position(&self.results.judged).context("the judged variant")?;
        let opponents = goals::opponents(&self.results).into_iter();
        let pairs: Vec<_> = opponents
            .filter_map(|(shape, it)| Some((shape, [judged, self.position(it)?])))
            .collect();
        if pairs.is_empty() {
            return Ok(());
        }
        for contest in 1..=self.plan.contests {
            say(&format!("contest {contest} of {}", self.plan.contests));
            for &(shape, mut pair) in &pairs {
                if contest.is_multiple_of(2) {
                    pair.reverse();
                }
                let [first, second] = pair;
                self.measure(first, shape, Some(second)).await?;
                self.measure(second, shape, Some(first)).await?;
            }
        }
        Ok(())
    }

    async fn open_rounds(&mut self) -> Result<()> {
        for percent in self.plan.shares.clone() {
            say(&format!("open loop at {percent} % of capacity"));
            for _ in 0..2 {
                for index in 0..self.variants.len() {
                    self.measure(index, Shape::Share(percent), None).await?;
                }
            }
        }
        Ok(())
    }

    /// Last, and on the pair in a new process, so that nothing is resident that another load left.
    async fn idle(&mut self) -> Result<()> {
        let Some(connections) = self.plan.idle else {
            return Ok(());
        };
        say(&format!("{connections} open connections"));
        let setup = Setup::Pair {
            directory: self.judged_directory()?,
        };
        let mut fresh = Variant::start("idle", &setup, self.engines.first(), self.scratch).await?;
        fresh.name.clone_from(&self.results.judged);
        self.variants.push(fresh);
        self.measure(self.variants.len() - 1, Shape::Idle(connections), None)
            .await
    }

    /// Where the build is that is judged.
    fn judged_directory(&self) -> Result<PathBuf> {
        match &self.results.other_build {
            Some(_) => Ok(self.args.static_dir.clone()),
            None => own_directory(),
        }
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.variants.iter().position(|it| it.name == name)
    }

    async fn measure(&mut self, index: usize, shape: Shape, beside: Option<usize>) -> Result<()> {
        let variant = self.variants.get(index).context("a variant")?;
        let mode = match shape {
            Shape::Closed(connections) => Mode::Closed { connections },
            Shape::Share(percent) => {
                let capacity = self.results.capacity(&variant.name).context("a capacity")?;
                Mode::Open {
                    rate: capacity * f64::from(percent) / 100.0,
                    connections: Connections::Fixed(1024),
                }
            }
            Shape::Rate(rate) => Mode::Open {
                rate: rate.into(),
                connections: Connections::Fixed(1024),
            },
            Shape::Idle(connections) => Mode::Open {
                rate: IDLE_RATE,
                connections: Connections::Fixed(connections),
            },
        };
        let mut load = self.load(variant, mode);
        // A round trip of so many takes half a second, and there should be several of them.
        if let Shape::Idle(MANY..) | Shape::Closed(MANY..) = shape {
            load.warmup = self.plan.warmup * 3;
            load.until = Until::Elapsed(self.plan.measured * 2);
        }
        let (report, costs) = variant
            .meter
            .watch(load.run(), |it| {
                it.as_ref().map_or_else(
                    |_| (tokio::time::Instant::now(), self.plan.measured),
                    |it| (it.began, it.elapsed),
                )
            })
            .await?;
        let report = report?;
        ensure!(report.wrong_total() == 0, "{}: WRONG ANSWERS\n{report}", variant.name);
        let beside = beside.and_then(|it| self.variants.get(it));
        let round = Round {
            variant: variant.name.clone(),
            shape,
            beside: beside.map(|it| it.name.clone()),
            report,
            costs,
        };
        say(&format!(
            "  {:<20} {:<20} {:>8.0}/s  p50 {:>8.3} ms  p99 {:>8.3} ms  {:>5.1} µs of CPU{}",
            round.variant,
            round.shape.to_string(),
            round.report.throughput(),
            round.quantile_ms(0.5),
            round.quantile_ms(0.99),
            round.own_cpu_us().unwrap_or_default(),
            if round.errors() > 0 {
                format!("  {} errors", round.errors())
            } else {
                String::new()
            },
        ));
        self.results.rounds.push(round);
        // What a closed connection leaves to do is not the next one's.
        sleep(std::time::Duration::from_millis(100)).await;
        Ok(())
    }

    fn load(&self, variant: &Variant, mode: Mode) -> Load {
        Load {
            question: Question::Get,
            warmup: self.plan.warmup,
            until: Until::Elapsed(self.plan.measured),
            ..Load::spread(variant.http.clone(), mode)
        }
    }
}

/// As many connections as there are descriptors for.
fn limit_connections(plan: &mut Plan, notes: &mut Vec<String>) {
    // If the limit stays low, fewer connections are tried.
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024);
    let room = usize::try_from(limit.saturating_sub(DESCRIPTORS)).unwrap_or(usize::MAX);
    let fits = |connections: &usize| *connections <= room;
    if !plan.closed.iter().all(fits) {
        notes.push(format!(
            "The hard limit of {limit} descriptors does not allow all loads."
        ));
    }
    plan.closed.retain(fits);
    plan.idle = plan.idle.filter(fits);
}

/// Where cargo put this binary, and gateway and worker beside it.
fn own_directory() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let directory = own.parent().context("a directory")?;
    ensure!(
        directory.join("gateway").exists() && directory.join("worker").exists(),
        "there is no gateway or worker in {}: cargo build --release",
        directory.display()
    );
    Ok(directory.to_owned())
}

/// What can be counted, if the binary is there.
fn budget() -> Option<Value> {
    let own = std::env::current_exe().ok()?;
    let ran = Command::new(own.with_file_name("budget")).output().ok()?;
    serde_json::from_slice(&ran.stdout).ok()
}

/// Progress, for who waits.
fn say(line: &str) {
    use std::io::Write;
    // Nothing depends on it.
    let _ = writeln!(std::io::stderr(), "{line}");
}
