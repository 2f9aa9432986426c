//! The environment of a run: the one place that reads it.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

const MINUTE: Duration = Duration::from_secs(60);

/// What the scenario asks for.
const SOAK_MINUTES: u32 = 10;

/// Kafka needs this one at least.
const MIN_JAVA: u32 = 17;

/// What the run is told, and what it finds.
#[derive(Debug, Clone)]
pub struct Environment {
    /// `CI=true`: an engine that cannot run is a failure.
    pub ci: bool,
    /// `KAFKA_BROKERS`: a cluster to use instead of own nodes, wherever no node has to be stopped.
    pub brokers: Option<String>,
    /// `SOAK`: how long the longest of the fault scenarios lasts, in minutes.
    pub soak: Duration,
    /// Why no Kafka node can be started here; `None` if one can.
    pub no_nodes: Option<String>,
}

// === impl Environment ===

impl Environment {
    /// Looks around.
    #[must_use]
    pub fn read() -> Self {
        Self {
            ci: variable("CI").is_some_and(|it| it == "true" || it == "1"),
            brokers: variable("KAFKA_BROKERS"),
            soak: MINUTE * variable("SOAK").and_then(|it| it.parse().ok()).unwrap_or(SOAK_MINUTES),
            no_nodes: no_nodes(),
        }
    }
}

/// The directory for what a run leaves behind for its own time.
#[must_use]
pub fn temporary() -> PathBuf {
    env::temp_dir()
}

/// Whether a program can be run at all.
#[must_use]
pub fn has(program: &str, version_flag: &str) -> bool {
    Command::new(program)
        .arg(version_flag)
        .output()
        .is_ok_and(|it| it.status.success())
}

#[expect(clippy::disallowed_methods, reason = "this is the place")]
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|it| !it.is_empty())
}

/// The same conditions as in `scripts/kafka`, which would fail on them; here they decide what is tested at all.
fn no_nodes() -> Option<String> {
    let java = variable("JAVA_HOME").map_or_else(|| "java".to_owned(), |home| format!("{home}/bin/java"));
    let Ok(said) = Command::new(&java).arg("-version").output() else {
        return Some(format!(
            "{java} cannot be run: a JDK of version {MIN_JAVA} or newer is needed"
        ));
    };
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    match java_version(&said) {
        Some(it) if it >= MIN_JAVA => {}
        _ => return Some(format!("{java} is not version {MIN_JAVA} or newer")),
    }
    if !has("mvn", "--version") && !jars_are_cached() {
        return Some("mvn cannot be run, and Kafka's jars are not cached".to_owned());
    }
    None
}

/// `17` of `openjdk version "17.0.15" …`.
fn java_version(said: &str) -> Option<u32> {
    let quoted = said.split('"').nth(1)?;
    quoted.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn jars_are_cached() -> bool {
    let cache = variable("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&variable("HOME")?).join(".cache")));
    cache
        .and_then(|it| it.join("pingpong-kafka").read_dir().ok())
        .is_some_and(|versions| versions.flatten().any(|it| it.path().join("libs").is_dir()))
}
