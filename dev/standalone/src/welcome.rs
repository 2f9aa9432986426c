//! The text that `make run` prints when it is ready: addresses, a command to try, and the first response.

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

/// Waits until gateway and worker are ready, requests `/ping` once and prints the text. Then it stays pending.
pub(crate) async fn print_when_ready(http: SocketAddr, admin: SocketAddr, worker: SocketAddr) -> Infallible {
    for admin_addr in [admin, worker] {
        while !http_client::get(admin_addr, "/ready")
            .await
            .is_ok_and(|response| response.status == 200)
        {
            sleep(INTERVAL).await;
        }
    }
    let start = Instant::now();
    let response = http_client::get(http, "/ping").await;
    let latency = start.elapsed();
    let first = match &response {
        Ok(response) => format!("{} in {:.1} ms", response.body, latency.as_secs_f64() * 1000.0),
        Err(error) => error.to_string(),
    };
    let (http, admin) = (http_client::reachable(http), http_client::reachable(admin));
    // An error means that stdout is closed.
    let _ = writeln!(
        io::stdout().lock(),
        "\n  gateway      http://{http}/ping\n  \
           status       http://{admin}/ready, /metrics, /live\n  \
           try          curl -i http://{http}/ping\n  \
           first ping   {first}\n  \
           stop         Ctrl-C\n",
    );
    std::future::pending().await
}
