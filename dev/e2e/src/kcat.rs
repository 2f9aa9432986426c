//! kcat: another client, with codecs and transactions that the client of the binaries lacks.

use std::{ffi::OsStr, fmt::Debug, future::Future, process::Stdio};

use tokio::{io::AsyncWriteExt, process::Command};

use crate::wait::{WAIT_LIMIT, within};

/// Writes lines as one batch to partition 0, with `args` for the encoding.
///
/// # Panics
/// When kcat cannot be run or fails.
pub async fn write(brokers: &str, topic: &str, args: &[impl AsRef<OsStr> + Debug], lines: &[Vec<u8>]) {
    write_held(brokers, topic, args, lines, async {}).await;
}

/// The same, but ends only after `held`. A transaction in `args` is open meanwhile.
///
/// # Panics
/// When kcat cannot be run or fails.
pub async fn write_held(
    brokers: &str,
    topic: &str,
    args: &[impl AsRef<OsStr> + Debug],
    lines: &[Vec<u8>],
    held: impl Future<Output = ()>,
) {
    let mut child = on(brokers)
        .args(["-P", "-t", topic, "-p", "0"])
        // One batch of all lines: a batch of one line would be sent uncompressed, which is shorter.
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

/// Runs kcat with this input and returns its output.
///
/// # Panics
/// When kcat cannot be run, fails, or does not end in time.
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
    let ended = within("the end of kcat", WAIT_LIMIT, child.wait_with_output()).await;
    let ended = ended.expect("it is a child of ours");
    assert!(ended.status.success(), "kcat {args:?}");
    String::from_utf8(ended.stdout).expect("its output is text")
}

/// Reads partition 0 to its end and prints each record by kcat's `format`.
///
/// # Panics
/// As for [`run`].
pub async fn read(brokers: &str, topic: &str, format: &str) -> String {
    let args = [
        "-C",
        "-q",
        "-e",
        "-o",
        "beginning",
        "-t",
        topic,
        "-p",
        "0",
        "-f",
        format,
    ];
    run(brokers, &args, "").await
}

/// The command, with a pipe for its input.
fn on(brokers: &str) -> Command {
    let mut command = Command::new("kcat");
    command
        // The time limit for metadata and transactions, in seconds: the first transaction creates a topic.
        .args(["-b", brokers, "-m", "60"])
        .stdin(Stdio::piped())
        .kill_on_drop(true);
    command
}
