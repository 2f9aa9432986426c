//! The environment of a run. No other module reads it.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

const MINUTE: Duration = Duration::from_secs(60);

/// The default of `SOAK`.
const SOAK_MINUTES: u32 = 10;

/// The oldest Java version that Kafka supports.
const MIN_JAVA: u32 = 17;

/// Settings and installed tools.
#[derive(Debug, Clone)]
pub struct Environment {
    /// `CI=true`: an engine that cannot run is a failure.
    pub ci: bool,
    /// `KAFKA_BROKERS`: a cluster for the tests that stop no nodes.
    pub brokers: Option<String>,
    /// `SOAK`: the minutes of fault scenario 29.
    pub soak: Duration,
    /// Why no Kafka node can be started here; `None` if one can.
    pub no_nodes: Option<String>,
}

// === impl Environment ===

impl Environment {
    /// Reads the environment.
    #[must_use]
    pub fn read() -> Self {
        Self {
            ci: variable("CI").is_some_and(|value| value == "true" || value == "1"),
            brokers: variable("KAFKA_BROKERS"),
            soak: MINUTE
                * variable("SOAK")
                    .and_then(|minutes| minutes.parse().ok())
                    .unwrap_or(SOAK_MINUTES),
            no_nodes: no_nodes(),
        }
    }
}

/// The directory for temporary files.
#[must_use]
pub fn temporary() -> PathBuf {
    env::temp_dir()
}

/// The directories of programs.
///
/// # Panics
/// When there are none.
#[must_use]
pub fn path() -> String {
    variable("PATH").expect("PATH is set")
}

/// Whether a program can be run.
#[must_use]
pub fn has(program: &str, version_flag: &str) -> bool {
    Command::new(program)
        .arg(version_flag)
        .output()
        .is_ok_and(|output| output.status.success())
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Checks the requirements of `scripts/kafka`: they decide whether tests on Kafka run.
fn no_nodes() -> Option<String> {
    let java = variable("JAVA_HOME").map_or_else(|| "java".to_owned(), |home| format!("{home}/bin/java"));
    let Ok(output) = Command::new(&java).arg("-version").output() else {
        return Some(format!(
            "{java} cannot be run: a JDK of version {MIN_JAVA} or newer is needed"
        ));
    };
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    match java_version(&text) {
        Some(version) if version >= MIN_JAVA => {}
        _ => return Some(format!("{java} is not version {MIN_JAVA} or newer")),
    }
    if !has("mvn", "--version") && !jars_are_cached() {
        return Some("mvn cannot be run, and Kafka's jars are not cached".to_owned());
    }
    None
}

/// `17` of `openjdk version "17.0.15" …`.
fn java_version(text: &str) -> Option<u32> {
    let quoted = text.split('"').nth(1)?;
    quoted.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn jars_are_cached() -> bool {
    let cache = variable("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&variable("HOME")?).join(".cache")));
    cache
        .and_then(|cache| cache.join("pingpong-kafka").read_dir().ok())
        .is_some_and(|versions| versions.flatten().any(|version| version.path().join("libs").is_dir()))
}
