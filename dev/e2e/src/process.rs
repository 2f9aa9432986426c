//! Processes of the gateway and the worker.

mod log;

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use rustix::process::{Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, kill_process, prlimit, waitid};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
};

use self::log::Log;
use crate::{
    binaries, connections,
    environment::path,
    footprint::Footprint,
    http::{self, Connection, Response, get},
    wait::{WAIT_LIMIT, until, until_eq, within},
};

/// The running processes, for a suite that is ended by a signal.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// A process to start. It does not inherit the environment of the test.
#[derive(Debug)]
pub struct Setup {
    name: &'static str,
    ports: &'static [&'static str],
    command: Command,
}

/// A running process. The drop kills it, and prints its log when the test has failed.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    log: Log,
}

/// A process that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code, or 128 + the number of the signal.
    pub code: i32,
    /// Its stdout.
    pub stdout: String,
    /// Its stderr.
    pub stderr: String,
}

// === impl Setup ===

impl Setup {
    /// A gateway on free ports of the loopback.
    #[must_use]
    pub fn gateway() -> Self {
        Self::new(
            "gateway",
            Command::new(binaries::gateway()),
            &["HTTP_ADDR", "ADMIN_ADDR"],
        )
    }

    /// A worker on a free port of the loopback.
    #[must_use]
    pub fn worker() -> Self {
        Self::new("worker", Command::new(binaries::worker()), &["ADMIN_ADDR"])
    }

    /// A service on the worker library, by its executable.
    #[must_use]
    pub fn service(executable: &Path) -> Self {
        Self::new("service", Command::new(executable), &["ADMIN_ADDR"])
    }

    /// A command in a directory, run by a shell. Its log has stdout and stderr.
    #[must_use]
    pub fn shell(directory: &Path, run: &str) -> Self {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(format!("exec {run} 1>&2")).current_dir(directory);
        Self::new("service", command, &[]).set("PATH", path())
    }

    fn new(name: &'static str, mut command: Command, ports: &'static [&'static str]) -> Self {
        command.env_clear().stdin(Stdio::null());
        for port in ports {
            command.env(port, "127.0.0.1:0");
        }
        Self { name, ports, command }
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn set(mut self, variable: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(variable, value);
        self
    }

    /// Takes an environment variable back.
    #[must_use]
    pub fn unset(mut self, variable: &str) -> Self {
        self.command.env_remove(variable);
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.command.arg(arg);
        self
    }

    /// Sets the soft and the hard limit of open descriptors.
    #[must_use]
    pub fn max_descriptors(self, max: u32) -> Self {
        let mut shell = Command::new("/bin/sh");
        shell
            .arg("-c")
            .arg(format!("ulimit -n {max} && exec \"$0\" \"$@\""))
            .arg(self.command.get_program());
        self.run_by(shell)
    }

    /// Uses the executable of another build.
    #[must_use]
    pub fn executable(self, path: &Path) -> Self {
        self.run_by(Command::new(path))
    }

    /// Moves arguments and environment to another command.
    fn run_by(self, mut command: Command) -> Self {
        let variables = self.command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        command
            .args(self.command.get_args())
            .env_clear()
            .envs(variables)
            .stdin(Stdio::null());
        Self { command, ..self }
    }

    /// Starts the process and waits until it listens.
    pub async fn start(mut self) -> Process {
        let mut child = self
            .command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary can be run");
        let log = Log::of(child.stderr.take().expect("it is piped"));
        RUNNING.lock().push(Pid::from_child(&child));
        let process = Process {
            name: self.name,
            child,
            log,
        };
        for port in self.ports {
            process.until_logged(&format!("listening variable=\"{port}\"")).await;
        }
        process
    }

    /// Starts the process and waits until it is ready.
    pub async fn ready(self) -> Process {
        let process = self.start().await;
        process.until_ready().await;
        process
    }

    /// Runs the process to its end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn run(self) -> Ended {
        let mut command = tokio::process::Command::from(self.command);
        let what = format!("the end of {}", self.name);
        let ended = within(&what, WAIT_LIMIT, command.kill_on_drop(true).output()).await;
        let ended = ended.expect("the binary can be run");
        let text = |bytes| String::from_utf8(bytes).expect("it writes UTF-8");
        Ended {
            code: code(ended.status),
            stdout: text(ended.stdout),
            stderr: text(ended.stderr),
        }
    }
}

// === impl Process ===

impl Process {
    /// The address for HTTP requests.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        self.addr("HTTP_ADDR")
    }

    /// The address of `/live`, `/ready` and `/metrics`.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.addr("ADMIN_ADDR")
    }

    fn addr(&self, variable: &str) -> SocketAddr {
        let text = format!("listening variable=\"{variable}\" addr=");
        let found = self.log.find(|line| {
            let (_, addr) = line.split_once(&text)?;
            addr.trim().parse().ok()
        });
        found.unwrap_or_else(|| panic!("{} did not log {text:?}", self.name))
    }

    /// A new connection for HTTP requests.
    ///
    /// # Panics
    /// When it does not listen.
    pub async fn connect(&self) -> Connection {
        Connection::open(self.http()).await.expect("it listens")
    }

    /// GET on a new connection.
    pub async fn get(&self, path: &str) -> Response {
        self.exchange(get(path)).await
    }

    /// POST of JSON on a new connection.
    pub async fn post(&self, path: &str, json: impl AsRef<[u8]>) -> Response {
        self.exchange(http::post(path, json)).await
    }

    /// Any request on a new connection.
    pub async fn exchange(&self, request: impl AsRef<[u8]>) -> Response {
        http::exchange(self.http(), request).await
    }

    /// GET on the admin listener: status and body.
    pub async fn page(&self, path: &str) -> (u16, String) {
        let response = http::exchange(self.admin(), get(path)).await;
        (response.status, response.text().to_owned())
    }

    /// Waits until `/ready` is 200.
    pub async fn until_ready(&self) {
        until_eq(
            &format!("{} is ready", self.name),
            WAIT_LIMIT,
            (200, READY.to_owned()),
            async || self.page("/ready").await,
        )
        .await;
    }

    /// Waits until `/ready` is 503, and returns its body.
    pub async fn until_unready(&self) -> String {
        until(&format!("{} is not ready", self.name), WAIT_LIMIT, async || {
            let (status, body) = self.page("/ready").await;
            (status == 503).then_some(body)
        })
        .await
    }

    /// A value of `/metrics` by its series, labels included.
    ///
    /// # Panics
    /// When the series is missing, or not an integer.
    pub async fn metric(&self, name: &str) -> i64 {
        let (_, text) = self.page("/metrics").await;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("there is no {name} in\n{text}"));
        value.parse().expect("it is a whole number")
    }

    /// Waits until a value of `/metrics` is the expected one.
    pub async fn until_metric(&self, name: &str, expected: i64) {
        until_eq(name, WAIT_LIMIT, expected, async || self.metric(name).await).await;
    }

    /// Waits for a line of the log that contains `text`.
    ///
    /// # Panics
    /// When there is none in time.
    pub async fn until_logged(&self, text: &str) -> String {
        until(
            &format!("{text:?} in the log of {}", self.name),
            WAIT_LIMIT,
            async || self.log.find(|line| line.contains(text).then(|| line.to_owned())),
        )
        .await
    }

    /// As [`Process::until_logged`], for a line that must be logged once.
    ///
    /// # Panics
    /// When there is more than one such line.
    pub async fn until_logged_once(&self, text: &str) -> String {
        let line = self.until_logged(text).await;
        let lines: Vec<_> = self.log().into_iter().filter(|line| line.contains(text)).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        line
    }

    /// The log so far. It comes through a pipe, so it may be behind responses and metrics.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Descriptors, memory and CPU time now.
    ///
    /// # Panics
    /// When the process has ended and [`Process::exit`] has returned.
    #[must_use]
    pub fn footprint(&self) -> Footprint {
        Footprint::of(Pid::from_child(&self.child))
    }

    /// Whether the process has not ended. The exit code stays for [`Process::exit`].
    #[must_use]
    pub fn is_running(&self) -> bool {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // An error means that the process has been waited for.
        matches!(waitid(WaitId::Pid(Pid::from_child(&self.child)), look), Ok(None))
    }

    /// `gateway`, `worker` or `service`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The number of established connections to these brokers.
    ///
    /// # Panics
    /// When the count panics.
    pub async fn connections(&self, brokers: &str) -> usize {
        let (pid, brokers) = (Pid::from_child(&self.child), brokers.to_owned());
        // Reading the system's tables takes long while other tests run, and must not delay a load of this test.
        let count = spawn_blocking(move || connections::count(pid, &brokers));
        count.await.expect("it does not panic")
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When there is no such process any more.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it runs, or has not been waited for");
    }

    /// Limits the open descriptors of the running process.
    ///
    /// # Panics
    /// When there is no such process any more.
    pub fn limit_descriptors(&self, count: u64) {
        let limit = Rlimit {
            current: Some(count),
            maximum: Some(count),
        };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Nofile, limit).expect("it runs, and is ours");
    }

    /// Waits until the process has ended and its log is complete. Returns the exit code, or 128 + the number of the signal.
    ///
    /// # Panics
    /// When it does not end within `limit`.
    pub async fn exit(&mut self, limit: Duration) -> i32 {
        let what = format!("the end of {}", self.name);
        until(&what, limit, async || {
            let ended = self.child.try_wait().expect("it is a child of ours")?;
            self.log.is_complete().then_some(code(ended))
        })
        .await
    }
}

/// The body of `/ready` with status 200.
const READY: &str = r#"{"causes":{},"ready":true}"#;

impl Drop for Process {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.child);
        RUNNING.lock().retain(|running| *running != pid);
        // Both fail only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let text = self.log.lines().join("\n");
            #[expect(clippy::print_stderr, reason = "the log belongs to the report of the failed test")]
            {
                eprintln!("--- log of {} {}\n{text}\n---", self.name, self.child.id());
            }
        }
    }
}

/// Waits for a signal that ends the suite, kills the processes and exits. Nodes of Kafka stop when their owner has ended.
/// Blocks its thread.
///
/// # Panics
/// When signals cannot be caught.
pub fn end_at_a_signal() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be had");
    runtime.block_on(async {
        let [mut interrupt, mut terminate, mut hangup] =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
                .map(|kind| signal(kind).expect("signals can be caught"));
        let code = tokio::select! {
            _ = interrupt.recv() => 130,
            _ = terminate.recv() => 143,
            _ = hangup.recv() => 129,
        };
        kill_all();
        #[expect(clippy::exit, reason = "a signal ends the suite at once")]
        std::process::exit(code);
    });
}

/// Kills all processes.
fn kill_all() {
    for pid in RUNNING.lock().iter() {
        // Fails for a process that has ended.
        let _ = kill_process(*pid, Signal::KILL);
    }
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .or_else(|| Some(128 + status.signal()?))
        .unwrap_or(i32::MAX)
}
