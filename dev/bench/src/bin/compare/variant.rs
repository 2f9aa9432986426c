//! A variant: what is measured, and how it is started.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use bench::RequestKind;

use crate::{
    broker::Broker,
    child::{Child, Setting, free_port},
    cpu::{CpuMeter, Role},
};

/// The body of a POST, in bytes.
const BODY_BYTES: usize = 200;

/// One column of the comparison.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    pub(crate) name: String,
    pub(crate) program: Program,
    pub(crate) requests: Requests,
}

/// What a variant is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Requests {
    GetPing,
    PostPing,
    PostRoute,
}

#[derive(Debug, Clone)]
pub(crate) enum Program {
    /// The directory of the binaries `gateway` and `worker`.
    Pair(PathBuf),
    /// For `sh -c`.
    Command(String),
}

/// A variant whose processes are ready; dropping it kills them.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) name: String,
    pub(crate) requests: Requests,
    pub(crate) http: SocketAddr,
    pub(crate) cpu: CpuMeter,
    /// The request topic and the reply topic, used by this variant in this round only.
    pub(crate) topics: [String; 2],
    _children: Vec<Child>,
}

// === impl Program ===

impl Program {
    pub(crate) fn pair(directory: &Path) -> Result<Self> {
        for name in ["gateway", "worker"] {
            let binary = directory.join(name);
            ensure!(binary.exists(), "there is no {}", binary.display());
        }
        Ok(Self::Pair(directory.to_owned()))
    }
}

// === impl Requests ===

impl Requests {
    pub(crate) fn kind(self) -> RequestKind {
        match self {
            Self::GetPing => RequestKind::Get,
            Self::PostPing => RequestKind::Post {
                body_bytes: Some(BODY_BYTES),
            },
            Self::PostRoute => RequestKind::Route { body_bytes: BODY_BYTES },
        }
    }
}

// === impl Variant ===

impl Variant {
    /// Creates topics for the round, starts the processes, and waits until they are ready.
    pub(crate) async fn start(&self, round: usize, broker: &Broker, logs: &Path) -> Result<Running> {
        let suffix = self.topic_suffix();
        let topics = ["ping", "pong"].map(|topic| format!("{topic}-{suffix}-{round}"));
        broker.create_topics(&topics).await?;
        let http = free_port()?;
        let mut cpu = CpuMeter::default();
        cpu.add_process_group(Role::Broker, broker.process_group)?;
        let [ping, pong] = topics.clone();
        let mut gateway_settings = vec![("HTTP_ADDR", http.to_string())];
        if self.requests == Requests::PostRoute {
            let file = logs.join(format!("routes-{suffix}.toml"));
            std::fs::write(&file, RequestKind::routes(&ping, &pong)).with_context(|| file.display().to_string())?;
            gateway_settings.push(("ROUTES", file.display().to_string()));
        }
        let settings = vec![
            ("KAFKA_BROKERS", broker.bootstrap.clone()),
            ("PING_TOPIC", ping),
            ("PONG_TOPIC", pong),
        ];
        let children = match &self.program {
            Program::Pair(directory) => {
                let worker = self.start_half("worker", directory, settings.clone(), logs).await?;
                cpu.add_process_group(Role::Worker, worker.process_group())?;
                let settings = [settings, gateway_settings].concat();
                let gateway = self.start_half("gateway", directory, settings, logs).await?;
                cpu.add_process_group(Role::Gateway, gateway.process_group())?;
                vec![worker, gateway]
            }
            Program::Command(line) => {
                let mut command = Command::new("sh");
                command.args(["-c", line]);
                let settings = [settings, vec![("PORT", http.port().to_string())]].concat();
                let mut child = Child::start(&self.name, logs, command, settings)?;
                let ready = child.returns_200(http, "/ping").await;
                ready.with_context(|| self.name.clone())?;
                // Now that the first request was answered, the command has started its worker.
                cpu.add_process_group(Role::Command, child.process_group())?;
                vec![child]
            }
        };
        Ok(Running {
            name: self.name.clone(),
            requests: self.requests,
            http,
            cpu,
            topics,
            _children: children,
        })
    }

    async fn start_half(
        &self,
        binary: &str,
        directory: &Path,
        mut settings: Vec<Setting>,
        logs: &Path,
    ) -> Result<Child> {
        let admin = free_port()?;
        settings.push(("ADMIN_ADDR", admin.to_string()));
        let command = Command::new(directory.join(binary));
        let mut child = Child::start(&format!("{} {binary}", self.name), logs, command, settings)?;
        let ready = child.returns_200(admin, "/ready").await;
        ready.with_context(|| format!("{} {binary}", self.name))?;
        Ok(child)
    }

    /// The name as part of a topic name.
    pub(crate) fn topic_suffix(&self) -> String {
        self.name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-")
    }
}
