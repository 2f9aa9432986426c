//! The text that `make run` prints when it is ready: addresses, commands to try, and the first response.

use std::{
    convert::Infallible,
    io::{self, Write},
    net::SocketAddr,
    time::Duration,
};

use shared::http_client;
use tokio::time::{Instant, sleep};

/// How often `/ready` is polled.
const INTERVAL: Duration = Duration::from_millis(20);

/// Where the parts listen.
#[derive(Debug)]
pub(crate) struct Addresses {
    pub(crate) http: SocketAddr,
    pub(crate) gateway_admin: SocketAddr,
    pub(crate) worker_admin: SocketAddr,
    /// `host:port`, separated by commas.
    pub(crate) brokers: String,
}

/// A request to try.
#[derive(Debug)]
pub(crate) struct Example {
    pub(crate) path: &'static str,
    /// The body of a `POST`; without one it is a `GET`.
    pub(crate) json: Option<&'static str>,
}

/// Waits until gateway and worker are ready, requests the path of the first example once and prints the text. Then it stays
/// pending.
pub(crate) async fn print_when_ready(addresses: Addresses, examples: &[Example]) -> Infallible {
    for admin_addr in [addresses.gateway_admin, addresses.worker_admin] {
        while !http_client::get(admin_addr, "/ready")
            .await
            .is_ok_and(|response| response.status == 200)
        {
            sleep(INTERVAL).await;
        }
    }
    let path = examples.first().map_or("/", |example| example.path);
    let start = Instant::now();
    let response = http_client::get(addresses.http, path).await;
    let latency_ms = start.elapsed().as_secs_f64() * 1000.0;
    let answer = match response {
        Ok(response) => format!("{} {} in {latency_ms:.1} ms", response.status, response.body),
        Err(error) => error.to_string(),
    };
    // An error means that stdout is closed.
    let _ = io::stdout()
        .lock()
        .write_all(text(&addresses, examples, &answer).as_bytes());
    std::future::pending().await
}

fn text(addresses: &Addresses, examples: &[Example], answer: &str) -> String {
    let http = http_client::reachable(addresses.http);
    let admin = http_client::reachable(addresses.gateway_admin);
    let commands: Vec<_> = examples.iter().map(|example| example.curl(http)).collect();
    format!(
        "\n  gateway       http://{http}\n  \
           status        http://{admin}/ready, /metrics, /live\n  \
           kafka         {brokers}\n  \
           try           {commands}\n  \
           first answer  {answer}\n  \
           stop          Ctrl-C\n\n",
        brokers = addresses.brokers,
        commands = commands.join("\n                "),
    )
}

// === impl Example ===

impl Example {
    /// The command for a POSIX shell.
    fn curl(&self, http: SocketAddr) -> String {
        let path = self.path;
        match self.json {
            None => format!("curl -i http://{http}{path}"),
            Some(json) => format!("curl -i http://{http}{path} --json '{json}'"),
        }
    }
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
        let examples = [
            Example {
                path: "/ping",
                json: None,
            },
            Example {
                path: "/orders",
                json: Some(r#"{"quantity":1}"#),
            },
        ];
        assert_eq!(
            text(&addresses, &examples, "200 {} in 0.6 ms"),
            r#"
  gateway       http://127.0.0.1:8080
  status        http://127.0.0.1:8081/ready, /metrics, /live
  kafka         127.0.0.1:9092
  try           curl -i http://127.0.0.1:8080/ping
                curl -i http://127.0.0.1:8080/orders --json '{"quantity":1}'
  first answer  200 {} in 0.6 ms
  stop          Ctrl-C

"#
        );
    }
}
