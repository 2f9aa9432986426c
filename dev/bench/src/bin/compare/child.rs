//! A process that was started to be measured: it ends with its value, and everything that it started with it.

use std::{
    ffi::OsStr,
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child as StdChild, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use shared::http_client;
use tokio::time::{Instant, sleep};

/// On the start of anything.
const LIMIT: Duration = Duration::from_secs(30);

/// Between two looks at whether something is ready. Below it, looking would slow down what it waits for.
const PAUSE: Duration = Duration::from_millis(1);

/// A process that leads a group of its own.
#[derive(Debug)]
pub(crate) struct Child {
    process: StdChild,
    began: Instant,
    log: PathBuf,
}

// === impl Child ===

impl Child {
    /// Starts a program with nothing of this process's environment but the path; what it says goes to a file of the
    /// directory.
    pub(crate) fn start<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        name: &str,
        logs: &Path,
        mut command: Command,
        environment: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self> {
        let log = logs.join(format!("{}.log", name.replace(' ', "-")));
        let said = File::create(&log).with_context(|| format!("{}", log.display()))?;
        command
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "HOME"))
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .process_group(0);
        let began = Instant::now();
        let process = command
            .spawn()
            .with_context(|| format!("{} cannot be run", command.get_program().display()))?;
        Ok(Self { process, began, log })
    }

    pub(crate) fn pid(&self) -> i32 {
        Pid::from_child(&self.process).as_raw_nonzero().get()
    }

    /// Waits until it answers 200; gives the time since it was started.
    pub(crate) async fn ready(&mut self, addr: SocketAddr, path: &str) -> Result<Duration> {
        loop {
            if http_client::get(addr, path).await.is_ok_and(|it| it.status == 200) {
                return Ok(self.began.elapsed());
            }
            let log = self.log.display();
            if let Some(status) = self.process.try_wait()? {
                bail!("ended with {status}; see {log}");
            }
            if self.began.elapsed() > LIMIT {
                bail!("does not answer on http://{addr}{path} after {LIMIT:?}; see {log}");
            }
            sleep(PAUSE).await;
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail only if it has ended already. Nothing is to be drained: what it answers is not read any more.
        let _ = kill_process_group(Pid::from_child(&self.process), Signal::KILL);
        let _ = self.process.wait();
    }
}

/// A port of the loopback that nobody has at this moment.
pub(crate) fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
