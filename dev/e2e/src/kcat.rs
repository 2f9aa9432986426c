//! kcat, another client: it has encodings that the client of the binaries does not know.

use std::{ffi::OsStr, fmt::Debug, future::Future, process::Stdio};

use tokio::{io::AsyncWriteExt, process::Command};

use crate::wait::{SOON, within};

/// Writes lines as one batch of partition 0, encoded as `args` say.
///
/// # Panics
/// When it cannot be run or fails.
pub async fn write(brokers: &str, topic: &str, args: &[impl AsRef<OsStr> + Debug], lines: &[Vec<u8>]) {
    write_held(brokers, topic, args, lines, async {}).await;
}

/// The same, and goes on after the last line until `held` is over. Where `args` name a transaction it is open meanwhile.
///
/// # Panics
/// When it cannot be run or fails.
pub async fn write_held(
    brokers: &str,
    topic: &str,
    args: &[impl AsRef<OsStr> + Debug],
    lines: &[Vec<u8>],
    held: impl Future<Output = ()>,
) {
    let mut child = on(brokers)
        .args(["-P", "-t", topic, "-p", "0"])
        // All lines make one batch: of a single one it would keep the plain form, which is shorter.
        .args(["-X", "linger.ms=10000"])
        .args(["-X", &format!("batch.num.messages={}", lines.len())])
        .args(args)
        .spawn()
        .expect("kcat is installed");
    let mut input = child.stdin.take().expect("it is piped");
    for line in lines {
        let line = [line, &b"\n"[..]].concat();
        input.write_all(&line).await.expect("it reads them all");
    }
    held.await;
    drop(input);
    let ended = child.wait().await.expect("it is a child of ours");
    assert!(ended.success(), "kcat {args:?}");
}

/// Runs it with this input and gives its output.
///
/// # Panics
/// When it cannot be run or fails, or does not end soon.
pub async fn run(brokers: &str, args: &[&str], input: &str) -> String {
    let mut child = on(brokers)
        .args(["-X", "linger.ms=100"])
        .args(args)
        .stdout(Stdio::piped())
        .spawn()
        .expect("kcat is installed");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).await.expect("it reads it all");
    drop(stdin);
    let ended = within("the end of kcat", SOON, child.wait_with_output()).await;
    let ended = ended.expect("it is a child of ours");
    assert!(ended.status.success(), "kcat {args:?}");
    String::from_utf8(ended.stdout).expect("its output is text")
}

/// kcat on these brokers, with its input from us.
fn on(brokers: &str) -> Command {
    let mut command = Command::new("kcat");
    command
        // How long it tries to ask them, or to begin a transaction, in seconds: the first one has Kafka make a topic.
        .args(["-b", brokers, "-m", "60"])
        .stdin(Stdio::piped())
        .kill_on_drop(true);
    command
}
