//! The services in `examples/`, installed and run as their table says.
//!
//! A service is installed in a copy of its directory, once for each state of its sources. Copies and downloads are in
//! `TARGET/examples`.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, sync::Semaphore, time::timeout};

use crate::{binaries, environment::has, process::Setup};

/// The directory of the examples.
pub const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");

/// The bound on an installation: a first one downloads.
const INSTALL_LIMIT: Duration = Duration::from_secs(600);

/// Is in a copy whose installation has succeeded. It holds the command.
const INSTALLED: &str = ".installed";

/// What an installation makes beside the sources.
const GENERATED: [&str; 4] = [".venv", "node_modules", "dist", "target"];

/// One installation at a time: they share caches, and the cores.
static INSTALLATION: Semaphore = Semaphore::const_new(1);

/// A row of the table in `examples/README.md`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The name of the service.
    pub name: String,
    /// Its source, relative to the directory of the examples.
    pub source: String,
    /// What is done once, if anything.
    install: String,
    /// The command that runs it.
    run: String,
}

/// Why an example cannot be run.
#[derive(Debug)]
pub enum InstallError {
    /// A program is missing.
    Missing(String),
    /// The installation failed, with this output.
    Failed(String),
}

/// The table.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn table() -> Vec<Example> {
    let text = fs::read_to_string(Path::new(EXAMPLES).join("README.md")).expect("it is there");
    let rows = text.lines().filter(|line| line.starts_with("| ["));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, link, _route, _client, install, run, _] = cells[..] else {
            panic!("five cells, not {row}");
        };
        let link = link.strip_prefix('[').and_then(|link| link.strip_suffix(')'));
        let (name, source) = link.and_then(|link| link.split_once("](")).expect("a link");
        Example {
            name: name.to_owned(),
            source: source.to_owned(),
            install: install.trim_matches('`').to_owned(),
            run: run.trim_matches('`').to_owned(),
        }
    })
    .collect()
}

/// A service of the table.
///
/// # Panics
/// When there is none of this name.
#[must_use]
pub fn find(name: &str) -> Example {
    let mut table = table().into_iter();
    table
        .find(|example| example.name == name)
        .unwrap_or_else(|| panic!("no {name} in the table"))
}

// === impl Example ===

impl Example {
    /// Its first directory.
    fn directory(&self) -> &str {
        self.source.split('/').next().expect("there is a first part")
    }

    /// Where it is installed.
    fn copy(&self) -> PathBuf {
        binaries::target_dir().join("examples").join(self.directory())
    }

    /// The name of the executable of a service in Rust. It is built with the binaries under test.
    fn executable(&self) -> Option<&str> {
        self.run.split_once("cargo run --bin ").map(|(_, name)| name)
    }

    /// The service as a process that is not yet started, with these brokers and this topic.
    #[must_use]
    pub fn setup(&self, brokers: &str, topic: &str) -> Setup {
        let setup = match self.executable() {
            Some(name) => Setup::service(binaries::example(name)).set("WORKER_GROUP", topic),
            None => self.shell(&self.run),
        };
        // The tests read the logs.
        let setup = setup.set("NO_COLOR", "1");
        setup.set("KAFKA_BROKERS", brokers).set("TOPIC", topic)
    }

    /// Another command where it is installed.
    #[must_use]
    pub fn shell(&self, run: &str) -> Setup {
        Setup::shell(&self.copy(), run)
    }

    /// Does what is done once.
    ///
    /// # Errors
    /// When a program is missing, or the command fails.
    ///
    /// # Panics
    /// When files cannot be copied.
    pub async fn install(&self) -> Result<(), InstallError> {
        if self.executable().is_some() {
            return Ok(());
        }
        self.check_programs()?;
        let _turn = INSTALLATION.acquire().await.expect("it is never closed");
        let copy = self.copy();
        let is_changed = copy_tree(&Path::new(EXAMPLES).join(self.directory()), &copy).expect("files can be copied");
        let installed = copy.join(INSTALLED);
        if !is_changed && fs::read_to_string(&installed).is_ok_and(|command| command == self.install) {
            return Ok(());
        }
        // An error means that it is not there.
        let _ = fs::remove_file(&installed);
        let mut command = Command::new("sh");
        command
            .args(["-c", &self.install])
            .current_dir(&copy)
            .envs(caches())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let failed = |text: &str| InstallError::Failed(format!("{}: {}: {text}", self.name, self.install));
        let ended = timeout(INSTALL_LIMIT, command.output()).await;
        let output = ended.map_err(|_elapsed| failed("it takes too long"))?;
        let output = output.expect("a shell can be run");
        if !output.status.success() {
            let text = [output.stdout, output.stderr].concat();
            return Err(failed(&String::from_utf8_lossy(&text)));
        }
        fs::write(&installed, &self.install).expect("files can be written");
        Ok(())
    }

    /// Checks that the programs in its commands can be run.
    fn check_programs(&self) -> Result<(), InstallError> {
        let words = format!("{} {}", self.install, self.run);
        for (program, version_flag) in [
            ("python3", "--version"),
            ("go", "version"),
            ("npm", "--version"),
            ("node", "--version"),
            ("mvn", "--version"),
            ("java", "-version"),
        ] {
            if words.split(' ').any(|word| word == program) && !has(program, version_flag) {
                return Err(InstallError::Missing(format!("{program} cannot be run")));
            }
        }
        Ok(())
    }
}

/// Where the package managers keep what they download.
fn caches() -> BTreeMap<&'static str, String> {
    let cache = binaries::target_dir().join("examples/cache");
    let of = |name: &str| cache.join(name).to_str().expect("the path is UTF-8").to_owned();
    BTreeMap::from([
        ("PIP_CACHE_DIR", of("pip")),
        ("npm_config_cache", of("npm")),
        ("GOPATH", of("go")),
        ("GOMODCACHE", of("go-modules")),
        ("GOCACHE", of("go-build")),
        // Without the first flag the modules cannot be removed, the second asks git about a directory that it ignores.
        ("GOFLAGS", "-modcacherw -buildvcs=false".to_owned()),
        // From the directory of an example: a path with a space would be two words.
        ("MAVEN_OPTS", "-Dmaven.repo.local=../cache/maven".to_owned()),
    ])
}

/// Copies the sources that differ. Returns whether one did.
fn copy_tree(from: &Path, to: &Path) -> io::Result<bool> {
    fs::create_dir_all(to)?;
    let mut is_changed = false;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, copy) = (entry.path(), to.join(entry.file_name()));
        if GENERATED.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            is_changed |= copy_tree(&source, &copy)?;
        } else {
            let bytes = fs::read(&source)?;
            if fs::read(&copy).ok().as_ref() != Some(&bytes) {
                fs::write(&copy, bytes)?;
                is_changed = true;
            }
        }
    }
    Ok(is_changed)
}
