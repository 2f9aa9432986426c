//! What a user sees at the start: few lines of the log, then the welcome text with the first answer and commands that work.

#![allow(clippy::unwrap_used, reason = "a panic fails the test and names the line")]

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{self, Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

/// Bound on the start.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Bound on the wait for a line of the log.
const WAIT_LIMIT: Duration = Duration::from_secs(10);

/// Lines of the log before the welcome text.
const MAX_LOG_LINES: usize = 5;

/// A started process.
struct Running {
    process: Child,
    welcome: String,
    log: Receiver<String>,
}

impl Running {
    /// Starts the process with these settings, and waits for the welcome text.
    fn start(settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pingpong"));
        command.env_clear().stdout(Stdio::piped()).stderr(Stdio::piped());
        for port in ["HTTP_ADDR", "ADMIN_ADDR", "BROKER_ADDR"] {
            command.env(port, "127.0.0.1:0");
        }
        command.envs(settings.iter().copied());
        let mut process = command.spawn().unwrap();
        let lines = lines_of(process.stdout.take().unwrap());
        let log = lines_of(process.stderr.take().unwrap());
        let mut running = Self {
            process,
            welcome: String::new(),
            log,
        };
        while !running.welcome.contains("Ctrl-C") {
            let line = lines.recv_timeout(START_LIMIT).expect("the welcome text is printed");
            running.welcome += &format!("{line}\n");
        }
        running
    }

    /// Runs each command of the welcome text, and returns it with what it prints.
    fn run_commands(&self) -> Vec<(&str, String)> {
        let lines = self.welcome.lines();
        let commands = lines.filter_map(|line| line.find("curl -i").and_then(|at| line.get(at..)));
        let run = commands.map(|command| {
            let mut shell = Command::new("sh");
            let output = shell.args(["-c", command]).output().unwrap();
            let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
            assert!(output.status.success(), "{command}: {stderr}");
            (command, stdout)
        });
        run.collect()
    }

    /// Waits for a line of the log.
    fn until_logged(&self, text: &str) -> String {
        loop {
            let line = self.log.recv_timeout(WAIT_LIMIT);
            let line = line.unwrap_or_else(|_| panic!("{text:?} is logged"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Ends the process, and returns its log.
    fn end(mut self) -> Vec<String> {
        self.process.kill().unwrap();
        self.log.iter().collect()
    }
}

/// Ends the process also when an assertion fails.
impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The lines of a pipe, as they come.
fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            // An error means that the test has ended.
            let _ = sender.send(line);
        }
    });
    lines
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn start_prints_a_short_log_and_the_first_answer() {
    let running = Running::start(&[]);
    for text in [
        "gateway ",
        "/ping\n",
        "/ping --json '{\"name\":\"Hello\",\"value\":\"World\"}'",
        "first answer  200 {\"message\":\"Ping Pong ( ",
    ] {
        assert!(running.welcome.contains(text), "{text:?}: {}", running.welcome);
    }
    let log = running.end();
    assert!(log.len() <= MAX_LOG_LINES, "{log:#?}");
}

/// Needs curl 7.82 or later, for `--json`.
#[test]
fn every_route_of_the_file_is_served_as_the_welcome_text_says() {
    let routes = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/routes.toml");
    let running = Running::start(&[("ROUTES", routes)]);
    let welcome = &running.welcome;
    assert!(
        welcome.contains("first answer  200 {\"message\":\"Ping Pong ( "),
        "{welcome}"
    );
    let answers = running.run_commands();
    let expected = [
        ("/ping", 200, "{\"message\":\"Ping Pong ( "),
        (
            "/ping --json '{\"name\":\"Hello\",\"value\":\"World\"}'",
            200,
            "Hello World ( ",
        ),
        (
            "/orders -H 'x-customer: 1' --json '{}'",
            200,
            r#"{"method":"POST","path":"/orders","params":{},"body":{}}"#,
        ),
        (
            "/customers/1",
            200,
            r#"{"method":"GET","path":"/customers/1","params":{"id":"1"},"body":""}"#,
        ),
        ("/events --json '{}'", 202, "{\"id\":\""),
    ];
    assert_eq!(answers.len(), expected.len(), "{answers:#?}");
    for ((command, answer), (end, status, body)) in answers.iter().zip(expected) {
        assert!(command.ends_with(end), "{command}");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{command}: {answer}"
        );
        assert!(answer.contains(body), "{command}: {answer}");
    }
    let line = running.until_logged("stored");
    assert!(line.contains("topic=\"events\""), "{line}");
}

#[test]
fn routes_without_ping_have_a_first_answer() {
    let routes = RoutesFile::new("only-echo", "[[route]]\non = \"PUT /a/{b}\"\ntopic = \"a\"\n");
    let running = Running::start(&[("ROUTES", routes.path())]);
    let answer = r#"first answer  200 {"method":"PUT","path":"/a/1","params":{"b":"1"},"body":{}}"#;
    assert!(running.welcome.contains(answer), "{}", running.welcome);
}

/// A file of routes, removed at the drop.
struct RoutesFile(PathBuf);

impl RoutesFile {
    fn new(name: &str, text: &str) -> Self {
        let file = env::temp_dir().join(format!("standalone-{name}-{}.toml", process::id()));
        fs::write(&file, text).unwrap();
        Self(file)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for RoutesFile {
    fn drop(&mut self) {
        // An error means that it is gone.
        let _ = fs::remove_file(&self.0);
    }
}
