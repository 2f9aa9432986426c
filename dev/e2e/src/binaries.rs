//! The binaries under test, built from the tree as it is now.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// The binaries of [`gateway()`] and [`worker()`].
static BINARIES: OnceLock<Binaries> = OnceLock::new();

/// The services in Rust of `examples/`.
const EXAMPLES: [&str; 3] = ["orders", "customers", "events"];

/// The root of the sources.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The executables of one build.
#[derive(Debug)]
pub struct Binaries {
    /// The executable of the gateway.
    pub gateway: PathBuf,
    /// The executable of the worker.
    pub worker: PathBuf,
    /// The executables of the examples, by their names.
    examples: BTreeMap<&'static str, PathBuf>,
}

/// Builds the binaries and the examples with the profile and the target directory of this test, for its processes.
///
/// # Errors
/// When the build fails; its errors are on stderr.
pub fn build() -> Result<(), String> {
    // A second call sets the same paths.
    let _ = BINARIES.set(build_with(&EXAMPLES)?);
    Ok(())
}

/// Builds the shipped binaries, static and optimized, for the processes of this test.
///
/// # Errors
/// As for [`build`].
pub fn build_static() -> Result<(), String> {
    let script = Path::new(ROOT).join("scripts/static");
    let built = Command::new(script).stdout(Stdio::null()).status();
    if !built.is_ok_and(|status| status.success()) {
        return Err("the static binaries do not build".to_owned());
    }
    let dist = Path::new(ROOT).join("dist");
    let _ = BINARIES.set(Binaries {
        gateway: dist.join("gateway"),
        worker: dist.join("worker"),
        examples: BTreeMap::new(),
    });
    Ok(())
}

/// Builds the binaries as [`build`] does, but without the examples, and does not use them for the processes of this test.
///
/// # Errors
/// As for [`build`].
pub fn build_own() -> Result<Binaries, String> {
    build_with(&[])
}

/// Builds the binaries and these examples.
fn build_with(examples: &[&'static str]) -> Result<Binaries, String> {
    let (target_dir, profile) = own_build().ok_or("the test executable is not in a target directory")?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet", "--package", "gateway", "--package", "worker"])
        .args(["--message-format", "json-render-diagnostics", "--profile", &profile])
        .arg("--target-dir")
        .arg(target_dir)
        .stderr(Stdio::inherit());
    if !examples.is_empty() {
        cargo.args(["--package", "examples"]);
    }
    let built = cargo
        .output()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    if !built.status.success() {
        return Err("the binaries do not build".to_owned());
    }
    let messages = String::from_utf8_lossy(&built.stdout);
    let find = |name| executable(&messages, name).ok_or(format!("cargo built no executable {name}"));
    let examples = examples.iter().map(|name| Ok((*name, find(name)?)));
    Ok(Binaries {
        gateway: find("gateway")?,
        worker: find("worker")?,
        examples: examples.collect::<Result<_, String>>()?,
    })
}

/// The executable of the gateway.
///
/// # Panics
/// When the binaries are not built.
#[must_use]
pub fn gateway() -> &'static Path {
    &BINARIES.get().expect("the binaries are built first").gateway
}

/// The executable of the worker.
///
/// # Panics
/// When the binaries are not built.
#[must_use]
pub fn worker() -> &'static Path {
    &BINARIES.get().expect("the binaries are built first").worker
}

/// The executable of an example in Rust.
///
/// # Panics
/// When the binaries are not built, or it is none of them.
#[must_use]
pub fn example(name: &str) -> &'static Path {
    let examples = &BINARIES.get().expect("the binaries are built first").examples;
    examples.get(name).unwrap_or_else(|| panic!("{name} is not built"))
}

/// The target directory of this test.
///
/// # Panics
/// When the test executable is not in one.
#[must_use]
pub fn target_dir() -> PathBuf {
    own_build().expect("it is in a target directory").0
}

/// Target directory and profile of the test executable, `TARGET/PROFILE/deps/NAME`.
fn own_build() -> Option<(PathBuf, String)> {
    let executable = std::env::current_exe().ok()?;
    let outputs = executable.parent()?.parent()?;
    let profile = match outputs.file_name()?.to_str()? {
        "debug" => "dev",
        other => other,
    };
    Some((outputs.parent()?.to_owned(), profile.to_owned()))
}

/// The executable in cargo's messages, one JSON object per line.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message.pointer("/target/name").is_some_and(|found| found == name))
        .find_map(|message| Some(message.get("executable")?.as_str()?.into()))
}
