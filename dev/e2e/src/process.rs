//! A gateway or a worker as a process of its own.

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
    footprint::Footprint,
    http::{self, Answer, Connection, get},
    wait::{SOON, until, until_eq, within},
};

/// The processes that run. Whoever ends the suite by a signal ends them, too.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// A process to be started. Nothing of the test's own environment reaches it.
#[derive(Debug)]
pub struct Setup {
    name: &'static str,
    ports: &'static [&'static str],
    command: Command,
}

/// A running process. It is killed when it is dropped; if that is because the test failed, its log is shown.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    log: Log,
}

/// A process that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; for a death by signal, 128 + its number.
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

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.command.arg(arg);
        self
    }

    /// Bounds the descriptors that it may have open, softly and hard.
    #[must_use]
    pub fn max_descriptors(self, max: u32) -> Self {
        let mut shell = Command::new("/bin/sh");
        shell
            .arg("-c")
            .arg(format!("ulimit -n {max} && exec \"$0\" \"$@\""))
            .arg(self.command.get_program());
        self.run_by(shell)
    }

    /// The same of another build.
    #[must_use]
    pub fn executable(self, path: &Path) -> Self {
        self.run_by(Command::new(path))
    }

    /// With the arguments and the environment moved to another command.
    fn run_by(self, mut command: Command) -> Self {
        let variables = self.command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        command
            .args(self.command.get_args())
            .env_clear()
            .envs(variables)
            .stdin(Stdio::null());
        Self { command, ..self }
    }

    /// Starts it and waits until it listens.
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
            process.logged(&format!("listening variable=\"{port}\"")).await;
        }
        process
    }

    /// Starts it and waits until it is ready.
    pub async fn ready(self) -> Process {
        let process = self.start().await;
        process.until_ready().await;
        process
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it does not end soon.
    pub async fn run(self) -> Ended {
        let mut command = tokio::process::Command::from(self.command);
        let what = format!("the end of {}", self.name);
        let ended = within(&what, SOON, command.kill_on_drop(true).output()).await;
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
    /// Where it answers callers.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        self.addr("HTTP_ADDR")
    }

    /// Where its `/live`, `/ready` and `/metrics` are.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.addr("ADMIN_ADDR")
    }

    fn addr(&self, variable: &str) -> SocketAddr {
        let said = format!("listening variable=\"{variable}\" addr=");
        let found = self.log.find(|line| {
            let (_, addr) = line.split_once(&said)?;
            addr.trim().parse().ok()
        });
        found.unwrap_or_else(|| panic!("{} does not say {said:?}", self.name))
    }

    /// A new connection to where it answers callers.
    ///
    /// # Panics
    /// When it does not listen.
    pub async fn connect(&self) -> Connection {
        Connection::open(self.http()).await.expect("it listens")
    }

    /// GET on a connection of its own.
    pub async fn get(&self, path: &str) -> Answer {
        self.ask(get(path)).await
    }

    /// POST of JSON on a connection of its own.
    pub async fn post(&self, path: &str, json: impl AsRef<[u8]>) -> Answer {
        self.ask(http::post(path, json)).await
    }

    /// Any request on a connection of its own.
    pub async fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        http::ask(self.http(), request).await
    }

    /// Status and body of a page of the admin listener.
    pub async fn page(&self, path: &str) -> (u16, String) {
        let answer = http::ask(self.admin(), get(path)).await;
        (answer.status, answer.text().to_owned())
    }

    /// Waits until it is ready.
    pub async fn until_ready(&self) {
        until_eq(
            &format!("{} is ready", self.name),
            SOON,
            (200, READY.to_owned()),
            async || self.page("/ready").await,
        )
        .await;
    }

    /// Waits until it is not ready, and gives what `/ready` then says.
    pub async fn until_unready(&self) -> String {
        until(&format!("{} is not ready", self.name), SOON, async || {
            let (status, body) = self.page("/ready").await;
            (status == 503).then_some(body)
        })
        .await
    }

    /// A value of `/metrics`, by its name with all its labels.
    ///
    /// # Panics
    /// When it is not there, or not a whole number.
    pub async fn metric(&self, name: &str) -> i64 {
        let (_, text) = self.page("/metrics").await;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("there is no {name} in\n{text}"));
        value.parse().expect("it is a whole number")
    }

    /// Waits until a value of `/metrics` is the expected one.
    pub async fn until_metric(&self, name: &str, expected: i64) {
        until_eq(name, SOON, expected, async || self.metric(name).await).await;
    }

    /// Waits for a line of the log with this text in it, and gives it.
    ///
    /// # Panics
    /// When it does not come soon.
    pub async fn logged(&self, text: &str) -> String {
        until(&format!("{text:?} in the log of {}", self.name), SOON, async || {
            self.log.find(|line| line.contains(text).then(|| line.to_owned()))
        })
        .await
    }

    /// As [`Process::logged`], of what is to be said once.
    ///
    /// # Panics
    /// When it was said more than once so far.
    pub async fn logged_once(&self, text: &str) -> String {
        let line = self.logged(text).await;
        let said: Vec<_> = self.log().into_iter().filter(|it| it.contains(text)).collect();
        assert_eq!(said.len(), 1, "{said:?}");
        line
    }

    /// What it has logged so far, as far as it is read: it comes through a pipe, later than what its other doors show.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// What it takes from the system now.
    ///
    /// # Panics
    /// When it has ended and [`Process::exit`] has said so.
    #[must_use]
    pub fn footprint(&self) -> Footprint {
        Footprint::of(Pid::from_child(&self.child))
    }

    /// Whether it has not ended. What it ended with is left for [`Process::exit`].
    #[must_use]
    pub fn is_running(&self) -> bool {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // Whoever has been waited for is nobody's child any more.
        matches!(waitid(WaitId::Pid(Pid::from_child(&self.child)), look), Ok(None))
    }

    /// Gateway or worker.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// How many connections to these brokers it has now.
    ///
    /// # Panics
    /// When the look does.
    pub async fn connections(&self, brokers: &str) -> usize {
        let (pid, brokers) = (Pid::from_child(&self.child), brokers.to_owned());
        // The system's tables are long while other tests run: whoever is under load meanwhile must not wait for them.
        let look = spawn_blocking(move || connections::count(pid, &brokers));
        look.await.expect("it does not panic")
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When there is no such process any more.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it runs, or has not been waited for");
    }

    /// Leaves it this many file descriptors.
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

    /// Waits until it ends by itself and its log is complete, and gives the exit code; for a death by signal, 128 + its number.
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

/// What `/ready` says when it is.
const READY: &str = r#"{"causes":{},"ready":true}"#;

impl Drop for Process {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.child);
        RUNNING.lock().retain(|it| *it != pid);
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let text = self.log.lines().join("\n");
            #[expect(clippy::print_stderr, reason = "it is for whoever reads about the failed test")]
            {
                eprintln!("--- log of {} {}\n{text}\n---", self.name, self.child.id());
            }
        }
    }
}

/// Waits for a signal that ends the suite, and then leaves nothing running: the processes end here, the nodes see that their
/// owner is gone. For a thread of its own.
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
                .map(|it| signal(it).expect("signals can be caught"));
        let code = tokio::select! {
            _ = interrupt.recv() => 130,
            _ = terminate.recv() => 143,
            _ = hangup.recv() => 129,
        };
        kill_all();
        #[expect(clippy::exit, reason = "whoever runs is not asked")]
        std::process::exit(code);
    });
}

/// Kills all processes; those who wait for them see that.
fn kill_all() {
    for pid in RUNNING.lock().iter() {
        // It may have ended by itself.
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
