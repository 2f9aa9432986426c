//! Writing with kcat, which has encodings that the client of the binaries does not know.

use std::{ffi::OsStr, fmt::Debug, future::Future, process::Stdio};

use tokio::{io::AsyncWriteExt, process::Command};

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
    let mut child = Command::new("kcat")
        .args(["-P", "-b", brokers, "-t", topic, "-p", "0"])
        // How long it tries to begin a transaction, in seconds: the first one has Kafka make a topic.
        .args(["-m", "60"])
        // All lines make one batch: of a single one it would keep the plain form, which is shorter.
        .args(["-X", "linger.ms=10000"])
        .args(["-X", &format!("batch.num.messages={}", lines.len())])
        .args(args)
        .stdin(Stdio::piped())
        .kill_on_drop(true)
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
