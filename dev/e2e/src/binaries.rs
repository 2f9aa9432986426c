//! The binaries under test, built from the tree as it is now.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// The binaries of [`gateway()`] and [`worker()`].
static BINARIES: OnceLock<Binaries> = OnceLock::new();

/// The root of the sources.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The executables of one build.
#[derive(Debug)]
pub struct Binaries {
    /// The executable of the gateway.
    pub gateway: PathBuf,
    /// The executable of the worker.
    pub worker: PathBuf,
}

/// Builds the binaries with the profile and the target directory of this test, for its processes.
///
/// # Errors
/// When the build fails; its errors are on stderr.
pub fn build() -> Result<(), String> {
    // A second call sets the same paths.
    let _ = BINARIES.set(build_own()?);
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
    });
    Ok(())
}

/// Builds the binaries as [`build`] does, but does not use them for the processes of this test.
///
/// # Errors
/// As for [`build`].
pub fn build_own() -> Result<Binaries, String> {
    let (target_dir, profile) = own_build().ok_or("the test executable is not in a target directory")?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet", "--package", "gateway", "--package", "worker"])
        .args(["--message-format", "json-render-diagnostics", "--profile", &profile])
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
    Ok(Binaries {
        gateway: find("gateway")?,
        worker: find("worker")?,
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
