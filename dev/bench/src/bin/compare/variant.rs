//! Variants: what is put under the same loads. Each runs from its start to the end of the session, and idles while it is
//! another's turn; each has topics of its own.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use rskafka::client::ClientBuilder;

use crate::{
    child::{Child, free_port},
    engine::Engine,
    meter::{Meter, Role},
    topic,
};

/// What to start.
#[derive(Debug, Clone)]
pub(crate) enum Setup {
    /// hyper answering at once.
    HyperAlone,
    /// Gateway and worker from a directory.
    Pair { directory: PathBuf },
    /// So many of both, each with a partition of its own.
    Fleet { directory: PathBuf, size: u16 },
    /// A shell command that serves HTTP on `127.0.0.1:$PORT`, with `KAFKA_BROKERS`, `PING_TOPIC` and `PONG_TOPIC`, which
    /// are there.
    Command(String),
}

/// A variant that runs.
#[derive(Debug)]
pub(crate) struct Variant {
    pub(crate) name: String,
    /// Of each gateway.
    pub(crate) http: Vec<SocketAddr>,
    pub(crate) meter: Meter,
    /// What was resident in the gateway and the worker when they had just become ready, in bytes.
    pub(crate) at_rest: Option<[u64; 2]>,
    pub(crate) is_command: bool,
    _children: Vec<Child>,
}

/// A gateway and a worker that have just become ready.
struct Pair {
    http: SocketAddr,
    gateway: Child,
    worker: Child,
    /// From the start of each process to its `/ready`.
    took: [Duration; 2],
}

// === impl Variant ===

impl Variant {
    /// Starts it and waits until it answers.
    pub(crate) async fn start(name: &str, setup: &Setup, engine: Option<&Engine>, scratch: &Path) -> Result<Self> {
        let mut meter = Meter::new()?;
        if let Some(engine) = engine {
            meter.add(Role::Broker, engine.pid)?;
        }
        let mut pairs = |pairs: Vec<Pair>| {
            let (mut http, mut children) = (Vec::new(), Vec::new());
            for pair in pairs {
                meter.add(Role::Gateway, pair.gateway.pid())?;
                meter.add(Role::Worker, pair.worker.pid())?;
                http.push(pair.http);
                children.extend([pair.gateway, pair.worker]);
            }
            anyhow::Ok((http, children))
        };
        let (http, children) = match setup {
            Setup::HyperAlone => {
                let http = free_port()?;
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["hyper-alone", &http.to_string()]);
                let mut child = Child::start(name, scratch, command, NOTHING)?;
                child.ready(http, "/ping").await.context("hyper alone")?;
                meter.add(Role::Server, child.pid())?;
                (vec![http], vec![child])
            }
            Setup::Pair { directory } => {
                let engine = engine.context("a pair needs a broker")?;
                pairs(vec![Pair::start(name, topics(name), directory, engine, scratch).await?])?
            }
            Setup::Fleet { directory, size } => {
                let engine = engine.context("a fleet needs a broker")?;
                create_topics(name, engine, *size).await?;
                let mut all = Vec::new();
                for partition in 0..*size {
                    let mut settings = topics(name);
                    settings.push(("REQUEST_PARTITIONS", "all".to_owned()));
                    settings.push(("REPLY_PARTITION", partition.to_string()));
                    settings.push(("PARTITIONS", partition.to_string()));
                    let name = format!("{name}, {partition}");
                    all.push(Pair::start(&name, settings, directory, engine, scratch).await?);
                }
                pairs(all)?
            }
            Setup::Command(line) => {
                let http = free_port()?;
                let mut command = Command::new("sh");
                command.args(["-c", line]);
                let mut environment = topics(name);
                environment.push(("PORT", http.port().to_string()));
                if let Some(engine) = engine {
                    create_topics(name, engine, 1).await?;
                    environment.push(("KAFKA_BROKERS", engine.brokers.clone()));
                }
                let mut child = Child::start(name, scratch, command, environment)?;
                child.ready(http, "/ping").await.with_context(|| name.to_owned())?;
                meter.add_group(Role::Server, child.pid())?;
                (vec![http], vec![child])
            }
        };
        Ok(Self {
            name: name.to_owned(),
            http,
            at_rest: matches!(setup, Setup::Pair { .. })
                .then(|| [Role::Gateway, Role::Worker].map(|it| meter.resident(it))),
            meter,
            is_command: matches!(setup, Setup::Command(_)),
            _children: children,
        })
    }
}

/// Starts the pair, with its topics there, and ends it again: how long gateway and worker take to be ready.
pub(crate) async fn cold_start(name: &str, directory: &Path, engine: &Engine, scratch: &Path) -> Result<[Duration; 2]> {
    Ok(Pair::start(name, topics(name), directory, engine, scratch).await?.took)
}

// === impl Pair ===

impl Pair {
    /// With its topics and what else is not as it is by itself.
    async fn start(name: &str, settings: Settings, directory: &Path, engine: &Engine, scratch: &Path) -> Result<Self> {
        let start = async |part: &str, more: &[(&'static str, SocketAddr)], admin: SocketAddr| {
            let mut environment = settings.clone();
            environment.push(("KAFKA_BROKERS", engine.brokers.clone()));
            environment.push(("ADMIN_ADDR", admin.to_string()));
            environment.extend(more.iter().map(|(name, addr)| (*name, addr.to_string())));
            let program = Command::new(directory.join(part));
            let mut child = Child::start(&format!("{name} {part}"), scratch, program, environment)?;
            let took = child
                .ready(admin, "/ready")
                .await
                .with_context(|| format!("{name}, {part}"))?;
            anyhow::Ok((child, took))
        };
        let http = free_port()?;
        let (worker, worker_took) = start("worker", &[], free_port()?).await?;
        let (gateway, gateway_took) = start("gateway", &[("HTTP_ADDR", http)], free_port()?).await?;
        Ok(Self {
            http,
            gateway,
            worker,
            took: [gateway_took, worker_took],
        })
    }
}

const NOTHING: [(&str, &str); 0] = [];

/// Names and values of environment variables.
type Settings = Vec<(&'static str, String)>;

/// Topics of its own: nobody reads another's records.
fn topics(name: &str) -> Settings {
    let name = name.replace(|it: char| !it.is_ascii_alphanumeric(), "-");
    vec![
        ("PING_TOPIC", format!("ping-{name}")),
        ("PONG_TOPIC", format!("pong-{name}")),
    ]
}

/// For those that do not create them, with a partition for each gateway.
async fn create_topics(name: &str, engine: &Engine, partitions: u16) -> Result<()> {
    let client = ClientBuilder::new(vec![engine.brokers.clone()]).build().await?;
    for (_, name) in topics(name) {
        topic::create(&client, &name, partitions.into()).await?;
    }
    Ok(())
}
