//! Real Kafka nodes with TLS, SASL and ACLs, through `scripts/kafka`; and Kafka's own producer, driven by a test.
//!
//! - The clients of [`Listener::Plaintext`] may do everything: a test prepares topics there and looks at them.
//! - Users, rights and certificates: `scripts/kafka.d/acls` and `scripts/kafka.d/certificates`.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Command as BlockingCommand, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{
    environment::temporary,
    wait::{WAIT_LIMIT, within},
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/kafka");

/// Distinguishes the clusters of this process.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// Nodes with all listeners. They stop when it is dropped.
#[derive(Debug)]
pub struct SecureCluster {
    dir: PathBuf,
    /// The lines of `client.env`.
    client: BTreeMap<String, String>,
}

/// How clients reach the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// Neither encryption nor authentication.
    Plaintext,
    /// PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER.
    SaslPlaintext,
    /// The same over TLS.
    SaslSsl,
    /// TLS with a client certificate.
    Ssl,
}

/// Kafka's Java producer. The broker sees a crash of it when it is dropped: open transactions stay open until
/// `transaction.timeout.ms` is over.
#[derive(Debug)]
pub struct JavaProducer {
    /// Killed when it is dropped.
    _process: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

// === impl SecureCluster ===

impl SecureCluster {
    /// Starts `nodes` nodes (6 at most), each broker and controller, on free ports. `properties` are broker settings, one
    /// `key=value` a line, such as `connections.max.reauth.ms=5000`.
    ///
    /// # Errors
    /// The error text of the script.
    pub async fn start(nodes: u32, properties: &str) -> Result<Self, String> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // The value exists before the nodes do, so that an interrupted start stops them as well.
        let mut cluster = Self {
            dir: temporary().join(format!("pingpong-e2e-secure-{}-{number}", std::process::id())),
            client: BTreeMap::new(),
        };
        let mut command = cluster.command(&["up", &nodes.to_string()]);
        command.env("KAFKA_SECURITY", "1").env("KAFKA_PROPERTIES", properties);
        output_of(command, "").await?;
        let path = cluster.dir.join("client.env");
        let lines = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let pairs = lines.lines().filter_map(|line| line.split_once('='));
        cluster.client = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Ok(cluster)
    }

    /// The bootstrap list of a listener.
    #[must_use]
    pub fn brokers(&self, listener: Listener) -> &str {
        self.value(listener.protocol())
    }

    /// The initial password of `admin`, `gateway`, `worker` or `alice`.
    #[must_use]
    pub fn password(&self, user: &str) -> &str {
        self.value(&format!("PASSWORD_{}", user.to_uppercase()))
    }

    /// A PEM file of `scripts/kafka.d/certificates`, such as `ca.crt` or `gateway.key`.
    #[must_use]
    pub fn tls_file(&self, name: &str) -> PathBuf {
        PathBuf::from(self.value("TLS_DIR")).join(name)
    }

    /// A token for OAUTHBEARER that expires in so many seconds. It has expired if they are negative.
    pub async fn token(&self, user: &str, seconds: i64) -> String {
        let token = self.run(&["token", user, &seconds.to_string()]).await;
        token.trim().to_owned()
    }

    /// A file with such a token, next to those of the nodes.
    pub async fn token_file(&self, user: &str, seconds: i64) -> PathBuf {
        self.write_file(&format!("{user}.token"), &self.token(user, seconds).await)
    }

    /// Writes or replaces a file next to those of the nodes, at once, as Kubernetes replaces a secret.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn write_file(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.join(name);
        let new = self.dir.join(format!("{name}.new"));
        let written = fs::write(&new, contents).and_then(|()| fs::rename(&new, &path));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// Runs commands of `scripts/kafka.d/Administer.java`, one a line, such as `acl remove gateway Write topic ping`. They are
    /// in effect on all live brokers afterwards.
    ///
    /// # Panics
    /// With the error text of the first that fails.
    pub async fn administer(&self, commands: &str) {
        let output = output_of(self.command(&["admin"]), commands).await;
        output.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Lets the TLS listeners present another certificate to new connections: `server` (the first), `renewed`,
    /// `other-name`, `expired` or `unknown-ca`.
    pub async fn replace_certificate(&self, name: &str) {
        let file = self.tls_file(&format!("{name}.pem"));
        self.administer(&format!("certificate {}", file.display())).await;
    }

    /// Starts a producer on [`Listener::Plaintext`]. `settings` are `key=value`, such as `compression.type=zstd`.
    ///
    /// # Panics
    /// When the script cannot be run.
    #[must_use]
    pub fn java_producer(&self, settings: &[&str]) -> JavaProducer {
        let mut command = self.command(&["produce"]);
        command.args(settings);
        JavaProducer::spawn(command)
    }

    /// Runs any other command of the script, such as `["kill", "1"]`, and gives its stdout.
    ///
    /// # Panics
    /// With the error text of the script.
    pub async fn run(&self, args: &[&str]) -> String {
        let output = output_of(self.command(args), "").await;
        output.unwrap_or_else(|error| panic!("{error}"))
    }

    fn value(&self, key: &str) -> &str {
        let value = self.client.get(key);
        value.unwrap_or_else(|| panic!("no {key} in {}/client.env", self.dir.display()))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(SCRIPT);
        command
            .args(args)
            .env("KAFKA_DIR", &self.dir)
            .env("KAFKA_OWNER_PID", std::process::id().to_string())
            .env("KAFKA_TIMEOUT", "120")
            .env_remove("KAFKA_PORT")
            .env_remove("KAFKA_PROPERTIES")
            .kill_on_drop(true);
        command
    }
}

impl Drop for SecureCluster {
    fn drop(&mut self) {
        // If this fails, the watch of the script over this process stops the nodes.
        let _ = BlockingCommand::new(SCRIPT)
            .arg("down")
            .env("KAFKA_DIR", &self.dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// Runs the script with `input` as its stdin, and gives its stdout. The script bounds its own waits.
pub(crate) async fn output_of(mut command: Command, input: &str) -> Result<String, String> {
    let output = async {
        let piped = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = piped.spawn()?;
        if let Some(mut stdin) = process.stdin.take() {
            // A script that fails early reads nothing: its exit code and stderr say more than the broken pipe.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        process.wait_with_output().await
    };
    let output = output
        .await
        .map_err(|error| format!("{SCRIPT} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let args = command.as_std().get_args().map(|arg| arg.to_string_lossy());
    Err(format!(
        "scripts/kafka {} failed: {}",
        args.collect::<Vec<_>>().join(" "),
        String::from_utf8_lossy(&output.stderr)
    ))
}

// === impl Listener ===

impl Listener {
    /// The value of `security.protocol` for its clients.
    #[must_use]
    pub const fn protocol(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
            Self::Ssl => "SSL",
        }
    }
}

// === impl JavaProducer ===

impl JavaProducer {
    /// Starts the command of the script.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = spawned.unwrap_or_else(|error| panic!("{SCRIPT} cannot be run: {error}"));
        let (Some(commands), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            panic!("the pipes of {SCRIPT} are missing");
        };
        Self {
            _process: process,
            commands,
            answers: BufReader::new(answers).lines(),
        }
    }

    /// Runs one command of `scripts/kafka.d/Produce.java`, such as `["send", "id", "pong", "0", "key", "value", "h=1"]`, and
    /// gives the offsets in its answer.
    ///
    /// # Panics
    /// When the producer fails, or does not answer in time.
    pub async fn command(&mut self, fields: &[&str]) -> Vec<i64> {
        let line = fields.join("\t") + "\n";
        let answer = async {
            self.commands.write_all(line.as_bytes()).await?;
            self.commands.flush().await?;
            self.answers.next_line().await
        };
        let answer = within(&format!("the answer to {line:?}"), WAIT_LIMIT, answer).await;
        let answer = answer.unwrap_or_else(|error| panic!("{line:?}: {error}"));
        let offsets = answer.as_deref().and_then(|text| text.strip_prefix("ok"));
        let offsets = offsets.unwrap_or_else(|| panic!("{line:?}: the producer has failed, see stderr"));
        offsets.split_whitespace().map(offset).collect()
    }
}

fn offset(text: &str) -> i64 {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is not an offset"))
}
