//! The text that `make run` prints when it is ready: addresses, commands to try, and the first response.

use std::{
    convert::Infallible,
    io::{self, Write},
    net::SocketAddr,
    time::Duration,
};

use gateway::Example;
use shared::http_client;
use tokio::time::{Instant, sleep};

/// How often `/ready` is polled.
const INTERVAL: Duration = Duration::from_millis(20);

/// Bound on the wait for an answer that is not 503.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Where the parts listen.
#[derive(Debug)]
pub(crate) struct Addresses {
    pub(crate) http: SocketAddr,
    pub(crate) gateway_admin: SocketAddr,
    pub(crate) worker_admin: SocketAddr,
    /// `host:port`, separated by commas.
    pub(crate) brokers: String,
}

/// Waits until gateway and worker are ready, requests `/ping` once and prints the text. Then it stays pending. Only `/ping` is
/// requested: another route may write to a topic of the user.
pub(crate) async fn print_when_ready(addresses: Addresses, examples: Vec<Example>) -> Infallible {
    for admin_addr in [addresses.gateway_admin, addresses.worker_admin] {
        while !http_client::get(admin_addr, "/ready")
            .await
            .is_ok_and(|response| response.status == 200)
        {
            sleep(INTERVAL).await;
        }
    }
    let ping = examples
        .iter()
        .find(|example| example.is_ping && example.method == "GET");
    let answer = match ping {
        Some(ping) => Some(first_answer(addresses.http, &ping.path).await),
        None => None,
    };
    // An error means that stdout is closed.
    let _ = io::stdout()
        .lock()
        .write_all(text(&addresses, &examples, answer.as_deref()).as_bytes());
    std::future::pending().await
}

/// Status, body and time of a request. A 503 is repeated: another route may be ready before this one.
async fn first_answer(http: SocketAddr, path: &str) -> String {
    let give_up = Instant::now() + ANSWER_LIMIT;
    loop {
        let start = Instant::now();
        let response = http_client::get(http, path).await;
        let latency_ms = start.elapsed().as_secs_f64() * 1000.0;
        match response {
            Ok(response) if response.status == 503 && start < give_up => sleep(INTERVAL).await,
            Ok(response) => return format!("{} {} in {latency_ms:.1} ms", response.status, response.body),
            Err(error) => return error.to_string(),
        }
    }
}

fn text(addresses: &Addresses, examples: &[Example], answer: Option<&str>) -> String {
    let http = http_client::reachable(addresses.http);
    let admin = http_client::reachable(addresses.gateway_admin);
    let commands: Vec<_> = examples.iter().map(|example| curl(example, http)).collect();
    let answer = answer.map_or_else(String::new, |answer| format!("  first answer  {answer}\n"));
    format!(
        "\n  gateway       http://{http}\n  \
           status        http://{admin}/ready, /metrics, /workers, /live\n  \
           kafka         {brokers}\n  \
           try           {commands}\n\
         {answer}  \
           stop          Ctrl-C\n\n",
        brokers = addresses.brokers,
        commands = commands.join("\n                "),
    )
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
        command.push_str(&quoted(&format!("{name}: 1")));
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
        let addresses = Addresses {
            http: "0.0.0.0:8080".parse().unwrap(),
            gateway_admin: "0.0.0.0:8081".parse().unwrap(),
            worker_admin: "0.0.0.0:8082".parse().unwrap(),
            brokers: "127.0.0.1:9092".to_owned(),
        };
        let example = |method: &str, path: &str, headers: &[&str], json| Example {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: headers.iter().map(|name| (*name).to_owned()).collect(),
            json,
            is_ping: false,
        };
        let examples = [
            example("GET", "/ping", &[], None),
            example("POST", "/orders", &["x-customer"], Some("{}")),
            example("DELETE", "/a'b/1", &[], None),
        ];
        assert_eq!(
            text(&addresses, &examples, Some("200 {} in 0.6 ms")),
            r#"
  gateway       http://127.0.0.1:8080
  status        http://127.0.0.1:8081/ready, /metrics, /workers, /live
  kafka         127.0.0.1:9092
  try           curl -i http://127.0.0.1:8080/ping
                curl -i http://127.0.0.1:8080/orders -H 'x-customer: 1' --json '{}'
                curl -i -X DELETE 'http://127.0.0.1:8080/a'\''b/1'
  first answer  200 {} in 0.6 ms
  stop          Ctrl-C

"#
        );
        assert!(!text(&addresses, &examples, None).contains("first answer"));
    }
}
