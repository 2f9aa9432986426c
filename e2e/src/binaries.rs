//! The binaries under test, built from the tree as it is now.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

static BINARIES: OnceLock<Binaries> = OnceLock::new();

#[derive(Debug)]
struct Binaries {
    gateway: PathBuf,
    worker: PathBuf,
}

/// Builds both with the profile, and into the target directory, of the running test.
///
/// # Errors
/// What does not compile is on stderr already; the text says so.
pub fn build() -> Result<(), String> {
    let (target_dir, profile) = own_build()?;
    build_as(&profile, &target_dir)
}

/// Builds both optimized, whatever the running test is: for figures.
///
/// # Errors
/// As for [`build`].
pub fn build_optimized() -> Result<(), String> {
    let (target_dir, _) = own_build()?;
    build_as("release", &target_dir)
}

fn build_as(profile: &str, target_dir: &Path) -> Result<(), String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet", "--package", "gateway", "--package", "worker"])
        .args(["--message-format", "json-render-diagnostics", "--profile", profile])
        .arg("--target-dir")
        .arg(target_dir)
        .stderr(Stdio::inherit());
    let built = cargo
        .output()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    if !built.status.success() {
        return Err("the binaries do not build".to_owned());
    }
    let messages = String::from_utf8_lossy(&built.stdout);
    let find = |name| executable(&messages, name).ok_or(format!("cargo built no executable {name}"));
    let binaries = Binaries {
        gateway: find("gateway")?,
        worker: find("worker")?,
    };
    // Set twice it would be the same.
    let _ = BINARIES.set(binaries);
    Ok(())
}

/// The gateway's executable.
///
/// # Panics
/// When nothing was built.
#[must_use]
pub fn gateway() -> &'static Path {
    &BINARIES.get().expect("the binaries are built first").gateway
}

/// The worker's executable.
///
/// # Panics
/// When nothing was built.
#[must_use]
pub fn worker() -> &'static Path {
    &BINARIES.get().expect("the binaries are built first").worker
}

/// Target directory and profile of the test executable, `TARGET/PROFILE/deps/NAME`.
fn own_build() -> Result<(PathBuf, String), String> {
    find_own_build().ok_or_else(|| "the test executable is not in a target directory".to_owned())
}

fn find_own_build() -> Option<(PathBuf, String)> {
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
        .filter(|it| it.pointer("/target/name").is_some_and(|it| it == name))
        .find_map(|it| Some(it.get("executable")?.as_str()?.into()))
}
