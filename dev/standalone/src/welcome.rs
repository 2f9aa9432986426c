//! The text that `make run` prints when it is ready: addresses, commands to try, and the first response.

use std::{
    convert::Infallible,
    io::{self, Write},
    net::SocketAddr,
    time::Duration,
};

use gateway::Example;
use shared::http_client;
use standalone::parts::StartUp;
use tokio::time::{Instant, sleep};

/// Between two attempts to get the first answer.
const INTERVAL: Duration = Duration::from_millis(20);

/// Bound on the wait for an answer that is not 503.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The value of each header that a key needs.
const HEADER_VALUE: &str = "1";

/// What the text says.
#[derive(Debug)]
pub(crate) struct Welcome {
    pub(crate) http: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// `host:port`, separated by commas.
    pub(crate) brokers: String,
    pub(crate) has_built_in_broker: bool,
    pub(crate) examples: Vec<Example>,
}

/// Waits until the parts are ready, sends the first request and prints the text. Then it stays pending.
pub(crate) async fn print_when_ready(start_up: StartUp, welcome: Welcome) -> Infallible {
    start_up.ready().await;
    let answer = match welcome.first() {
        Some(example) => Some(first_answer(welcome.http, example).await),
        None => None,
    };
    // An error means that stdout is closed.
    let _ = io::stdout()
        .lock()
        .write_all(welcome.text(answer.as_deref()).as_bytes());
    std::future::pending().await
}

/// Status, body and time of a request. A 503 is repeated: another route may be ready before this one.
async fn first_answer(http: SocketAddr, example: &Example) -> String {
    let give_up = Instant::now() + ANSWER_LIMIT;
    let headers = example.headers.iter().map(|name| (name.as_str(), HEADER_VALUE));
    let json = example.json.map(|_| ("content-type", "application/json"));
    let headers: Vec<_> = headers.chain(json).collect();
    let body = example.json.unwrap_or_default();
    loop {
        let start = Instant::now();
        let response = http_client::send(http, &example.method, &example.path, &headers, body).await;
        let latency_ms = start.elapsed().as_secs_f64() * 1000.0;
        match response {
            Ok(response) if response.status == 503 && start < give_up => sleep(INTERVAL).await,
            Ok(response) => return format!("{} {} in {latency_ms:.1} ms", response.status, response.body),
            Err(error) => return error.to_string(),
        }
    }
}

// === impl Welcome ===

impl Welcome {
    /// The request to send. On a cluster it is a `GET /ping`: another route may write to a topic of the user.
    fn first(&self) -> Option<&Example> {
        let is_harmless = |example: &&Example| example.is_ping && example.method == "GET";
        self.examples
            .iter()
            .find(|example| self.has_built_in_broker || is_harmless(example))
    }

    fn text(&self, answer: Option<&str>) -> String {
        let http = http_client::reachable(self.http);
        let admin = http_client::reachable(self.admin);
        let commands: Vec<_> = self.examples.iter().map(|example| curl(example, http)).collect();
        let answer = answer.map_or_else(String::new, |answer| format!("  first answer  {answer}\n"));
        format!(
            "\n  gateway       http://{http}\n  \
               status        http://{admin}/ready, /metrics, /workers, /live\n  \
               kafka         {brokers}\n  \
               try           {commands}\n\
             {answer}  \
               stop          Ctrl-C\n\n",
            brokers = self.brokers,
            commands = commands.join("\n                "),
        )
    }
}

/// The command for a POSIX shell.
fn curl(example: &Example, http: SocketAddr) -> String {
    let mut command = "curl -i ".to_owned();
    match (example.method.as_str(), example.json) {
        ("GET", None) | ("POST", Some(_)) => {}
        ("HEAD", _) => command.push_str("--head "),
        (method, _) => {
            command.push_str("-X ");
            command.push_str(method);
            command.push(' ');
        }
    }
    command.push_str(&quoted(&format!("http://{http}{}", example.path)));
    for name in &example.headers {
        command.push_str(" -H ");
        command.push_str(&quoted(&format!("{name}: {HEADER_VALUE}")));
    }
    if let Some(json) = example.json {
        command.push_str(" --json ");
        command.push_str(&quoted(json));
    }
    command
}

/// In single quotes, where the shell needs them.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/:.-_%[]".contains(&byte);
    if word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_a_command_for_each_example() {
        let example = |method: &str, path: &str, headers: &[&str], json| Example {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: headers.iter().map(|name| (*name).to_owned()).collect(),
            json,
            is_ping: path == "/ping",
            topic: "a".to_owned(),
            reply_topic: None,
        };
        let examples = [
            example("POST", "/orders", &["x-customer"], Some("{}")),
            example("DELETE", "/a'b/1", &[], None),
            example("GET", "/ping", &[], None),
        ];
        let mut welcome = Welcome {
            http: "0.0.0.0:8080".parse().unwrap(),
            admin: "0.0.0.0:8081".parse().unwrap(),
            brokers: "127.0.0.1:9092".to_owned(),
            has_built_in_broker: true,
            examples: examples.into(),
        };
        assert_eq!(
            welcome.text(Some("200 {} in 0.6 ms")),
            r#"
  gateway       http://127.0.0.1:8080
  status        http://127.0.0.1:8081/ready, /metrics, /workers, /live
  kafka         127.0.0.1:9092
  try           curl -i http://127.0.0.1:8080/orders -H 'x-customer: 1' --json '{}'
                curl -i -X DELETE 'http://127.0.0.1:8080/a'\''b/1'
                curl -i http://127.0.0.1:8080/ping
  first answer  200 {} in 0.6 ms
  stop          Ctrl-C

"#
        );
        assert!(!welcome.text(None).contains("first answer"));
        assert_eq!(welcome.first().unwrap().path, "/orders");
        welcome.has_built_in_broker = false;
        assert_eq!(welcome.first().unwrap().path, "/ping");
    }
}
