//! A child process and its process group, killed when the value is dropped.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child as StdChild, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use shared::http_client;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

/// Limit of a start.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause between two checks whether a child is ready.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Below the ephemeral ports (32768 and up) and the ports of `scripts/kafka` (20000 and up): no client can hold one.
const PORTS: std::ops::Range<u16> = 10_000..20_000;

/// A child that leads a process group of its own.
#[derive(Debug)]
pub(crate) struct Child {
    process: StdChild,
    log: PathBuf,
}

/// An environment variable and its value.
pub(crate) type Setting = (&'static str, String);

/// An address of the loopback interface that is not in use now.
pub(crate) fn free_port() -> Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Programs that run at the same time begin at different ports.
    let offset = u16::try_from(std::process::id() % u32::from(PORTS.end - PORTS.start)).unwrap_or_default();
    for _ in PORTS {
        let index = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(offset);
        let port = PORTS.start + index % (PORTS.end - PORTS.start);
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok(listener.local_addr()?);
        }
    }
    bail!("no free port in {PORTS:?}")
}

// === impl Child ===

impl Child {
    /// Starts a program with `PATH`, `HOME` and `settings` as its environment, and its output in a file of `logs`.
    pub(crate) fn start(
        name: &str,
        logs: &Path,
        mut command: Command,
        settings: impl IntoIterator<Item = Setting>,
    ) -> Result<Self> {
        let log = logs.join(format!("{}.log", name.replace([' ', '/'], "-")));
        let output = File::options().create(true).append(true).open(&log);
        let output = output.with_context(|| log.display().to_string())?;
        let inherited = std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "HOME");
        let process = command
            .env_clear()
            .envs(inherited)
            .envs(settings)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("{} cannot be run", command.get_program().display()))?;
        Ok(Self { process, log })
    }

    pub(crate) fn process_group(&self) -> i32 {
        Pid::from_child(&self.process).as_raw_nonzero().get()
    }

    /// Waits until a GET of `path` returns 200.
    pub(crate) async fn returns_200(&mut self, addr: SocketAddr, path: &str) -> Result<()> {
        let is_200 = async || {
            let response = http_client::get(addr, path).await;
            response.is_ok_and(|response| response.status == 200)
        };
        self.wait_until(is_200)
            .await
            .with_context(|| format!("http://{addr}{path} does not return 200"))
    }

    pub(crate) async fn accepts_connections(&mut self, addr: SocketAddr) -> Result<()> {
        self.wait_until(async || TcpStream::connect(addr).await.is_ok())
            .await
            .with_context(|| format!("{addr} does not accept connections"))
    }

    async fn wait_until(&mut self, is_ready: impl AsyncFn() -> bool) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while !is_ready().await {
            let log = self.log.display();
            if let Some(status) = self.process.try_wait()? {
                bail!("the process ended with {status}; see {log}");
            }
            if Instant::now() > deadline {
                bail!("not within {START_TIMEOUT:?}; see {log}");
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail only if the process has ended already. No request is in flight any more.
        let _ = kill_process_group(Pid::from_child(&self.process), Signal::KILL);
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ_and_are_not_ephemeral() {
        let first = free_port().unwrap();
        let second = free_port().unwrap();
        assert_ne!(first, second);
        assert!(PORTS.contains(&first.port()) && PORTS.contains(&second.port()));
    }

    #[tokio::test]
    async fn child_that_exits_early_is_an_error_with_its_log() {
        let mut command = Command::new("sh");
        command.args(["-c", "exit 3"]);
        let name = format!("compare-child-{}", std::process::id());
        let mut child = Child::start(&name, &std::env::temp_dir(), command, []).unwrap();
        let error = child.returns_200(free_port().unwrap(), "/ready").await.unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("exit status: 3") && text.contains(&name), "{text}");
        std::fs::remove_file(&child.log).unwrap();
    }
}
