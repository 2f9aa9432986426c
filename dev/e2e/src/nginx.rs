//! nginx, as one process with the configuration of a test.

use std::{
    fs,
    io::{Error, Result},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
};

use tokio::{
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};

use crate::{
    environment::temporary,
    wait::{WAIT_LIMIT, until},
};

/// Makes the directory names of this process unique.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// The directory of a configuration, removed at the drop.
#[derive(Debug)]
pub struct Directory(PathBuf);

/// A running nginx. The drop kills it.
#[derive(Debug)]
pub struct Nginx {
    addr: SocketAddr,
    _process: Child,
    _dir: Directory,
}

// === impl Directory ===

impl Directory {
    /// Creates a directory. The files that a configuration names are looked up there.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create() -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = temporary().join(format!("pingpong-nginx-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir)?;
        Ok(Self(dir))
    }

    /// The path of a file in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // A directory that stays does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

// === impl Nginx ===

impl Nginx {
    /// Starts nginx, and waits until it listens. `config` makes the configuration, which has one `http {`, from the address to
    /// listen on.
    ///
    /// # Errors
    /// When it cannot be run. With its error log when it does not accept the configuration.
    ///
    /// # Panics
    /// When it does not listen in time.
    pub async fn start(dir: Directory, config: impl FnOnce(SocketAddr) -> String) -> Result<Self> {
        // nginx cannot tell which free port it was given.
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?;
        let path = dir.0.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path {path}/{name};\n"))
            .collect();
        let process = format!("daemon off;\nmaster_process off;\npid {path}/pid;\nerror_log {path}/error.log warn;\n");
        let config = config(addr).replacen("http {", &format!("http {{\naccess_log off;\n{temporary}"), 1);
        let file = dir.file("nginx.conf");
        fs::write(&file, process + &config)?;
        let mut process = Command::new("nginx")
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let listens = until("nginx listens", WAIT_LIMIT, async || {
            let has_ended = matches!(process.try_wait(), Ok(Some(_)));
            (has_ended || TcpStream::connect(addr).await.is_ok()).then_some(!has_ended)
        });
        if !listens.await {
            return Err(Error::other(fs::read_to_string(dir.file("error.log"))?));
        }
        Ok(Self {
            addr,
            _process: process,
            _dir: dir,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}
