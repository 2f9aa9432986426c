//! What a user sees at the start: few lines of the log, then the welcome text with the first answer.

#![allow(clippy::unwrap_used, reason = "a panic fails the test and names the line")]

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// Bound on the start.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Lines of the log before the welcome text.
const MAX_LOG_LINES: usize = 5;

/// Ends the process also when an assertion fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn start_prints_a_short_log_and_the_first_answer() {
    let welcome = welcome(&[]);
    for text in [
        "gateway ",
        "/ping\n",
        "/ping --json '{\"name\":\"Hello\",\"value\":\"World\"}'",
        "first answer  200 {\"message\":\"Ping Pong ( ",
    ] {
        assert!(welcome.contains(text), "{text:?}: {welcome}");
    }
}

#[test]
fn start_prints_an_example_for_each_route_of_the_file() {
    let routes = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/routes.toml");
    let welcome = welcome(&[("ROUTES", routes)]);
    for text in [
        "/ping\n",
        "/orders -H 'x-customer: 1' --json '{}'\n",
        "/customers/1\n",
        "/events --json '{}'\n",
        "first answer  200 {\"message\":\"Ping Pong ( ",
    ] {
        assert!(welcome.contains(text), "{text:?}: {welcome}");
    }
}

/// Starts the process with these settings, checks the length of its log, and returns the welcome text.
fn welcome(settings: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pingpong"));
    command.env_clear().stdout(Stdio::piped()).stderr(Stdio::piped());
    for port in ["HTTP_ADDR", "ADMIN_ADDR", "BROKER_ADDR"] {
        command.env(port, "127.0.0.1:0");
    }
    command.envs(settings.iter().copied());
    let mut running = Running(command.spawn().unwrap());
    let stdout = running.0.stdout.take().unwrap();
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // An error means that the test has ended.
            let _ = sender.send(line);
        }
    });

    let mut welcome = Vec::new();
    while !welcome.last().is_some_and(|line: &String| line.contains("Ctrl-C")) {
        welcome.push(lines.recv_timeout(START_LIMIT).expect("the welcome text is printed"));
    }
    let welcome = welcome.join("\n");

    let mut stderr = running.0.stderr.take().unwrap();
    drop(running);
    let mut log = String::new();
    stderr.read_to_string(&mut log).unwrap();
    assert!(log.lines().count() <= MAX_LOG_LINES, "{log}");
    welcome
}
