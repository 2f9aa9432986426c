//! What a newcomer sees: where everything is, what to try, and that it works.

use std::{
    convert::Infallible,
    io::{self, Write},
    net::SocketAddr,
    time::Duration,
};

use shared::http_client;
use tokio::time::{Instant, sleep};

/// How often readiness is asked for.
const INTERVAL: Duration = Duration::from_millis(20);

/// Waits until gateway and worker are ready, pings once and prints the block. Then it has nothing more to do.
pub(crate) async fn print_when_ready(http: SocketAddr, admin: SocketAddr, worker: SocketAddr) -> Infallible {
    for part in [admin, worker] {
        while !http_client::get(part, "/ready").await.is_ok_and(|it| it.status == 200) {
            sleep(INTERVAL).await;
        }
    }
    let start = Instant::now();
    let answer = http_client::get(http, "/ping").await;
    let took = start.elapsed();
    let first = match &answer {
        Ok(answer) => format!("{} in {:.1} ms", answer.body, took.as_secs_f64() * 1000.0),
        Err(error) => error.to_string(),
    };
    let (http, admin) = (http_client::reachable(http), http_client::reachable(admin));
    // Nobody reads it: no reason to end.
    let _ = writeln!(
        io::stdout().lock(),
        "\n  gateway      http://{http}/ping\n  \
           its insides  http://{admin}/ready, /metrics, /live\n  \
           try          curl -i http://{http}/ping\n  \
           first ping   {first}\n  \
           stop         Ctrl-C\n",
    );
    std::future::pending().await
}
