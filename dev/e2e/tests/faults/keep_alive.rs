//! Proxies in front that keep idle connections almost as long as the gateway. Their times are those of production, divided
//! by 30: nginx and AWS's balancer keep a connection for 60 s, the gateway for 75 s.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use e2e::{
    fixture::Fixture,
    http::{Connection, Next, post},
    nginx::{Directory, Nginx},
};
use futures_util::future::join_all;
use serde_json::json;
use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::{
    fault::{Common, Fault, Pair},
    invariants::twice,
    verdict::Verdict,
};

/// How long a proxy keeps an idle connection, and the `IDLE_TIMEOUT` of the gateway.
const PROXY_IDLE: Duration = Duration::from_secs(2);
const IDLE_TIMEOUT: &str = "2500ms";

/// The network between proxy and gateway, one way: so long a request is on its way while the gateway closes.
const DELAY: Duration = Duration::from_millis(10);

/// Requests at the same time, each on a connection of its own, and how often.
const CLIENTS: usize = 100;
const TURNS: usize = 10;

/// The idle times are spread evenly from `PROXY_IDLE` less this to `PROXY_IDLE` plus this.
const SPREAD: Duration = Duration::from_millis(100);

/// A relay to the gateway that delays all bytes.
#[derive(Debug)]
struct Relay {
    addr: SocketAddr,
    connections: Arc<AtomicUsize>,
}

pub(crate) async fn proxies(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let fixture = Fixture::shared(fault.engine).await;
    let (gateway, worker) = tokio::join!(
        fixture.gateway().common().set("IDLE_TIMEOUT", IDLE_TIMEOUT).ready(),
        fixture.worker().ready()
    );
    let pair = Pair { gateway, worker };
    let relay = Relay::start(pair.gateway.http()).await;
    let directory = Directory::create().unwrap();
    let nginx = match Nginx::start(directory, |addr| config(relay.addr, addr)).await {
        Ok(nginx) => nginx,
        Err(error) => return Verdict::broken(format!("nginx does not start (Debian: nginx-light): {error}")),
    };
    twice(&pair.processes(), &mut verdict, async |verdict| {
        for (name, addr, is_balancer) in [("nginx", nginx.addr(), false), ("balancer", relay.addr, true)] {
            let before = relay.connections.load(Ordering::Relaxed);
            let clients = (0..CLIENTS).map(|number| client(addr, number, is_balancer));
            let failures: Vec<_> = join_all(clients).await.concat();
            let opened = relay.connections.load(Ordering::Relaxed) - before;
            let posts = CLIENTS * TURNS;
            verdict.judge(
                failures.is_empty(),
                format!("{name}: {} of {posts} failed", failures.len()),
            );
            if let Some(first) = failures.first() {
                verdict.note(format!("{name}: {first}"));
            }
            // Otherwise nothing was tested.
            let reused = posts.saturating_sub(opened);
            verdict.invariant(
                reused >= posts / 4,
                format!("{name}: only {reused} on a kept connection"),
            );
            verdict.note(format!("{reused} on a kept connection"));
            // The idle connections end before the descriptors are counted.
            sleep(2 * PROXY_IDLE).await;
        }
    })
    .await;
    verdict
}

/// Sends requests with pauses, and returns what was no right response. A balancer closes a connection at `PROXY_IDLE`; nginx has
/// its own timer for the connections behind it, and the client's is never idle for too long.
async fn client(addr: SocketAddr, number: usize, is_balancer: bool) -> Vec<String> {
    let mut failures = Vec::new();
    let mut kept = None;
    let share = u32::try_from(number).unwrap();
    let idle = PROXY_IDLE - SPREAD + 2 * SPREAD * share / u32::try_from(CLIENTS).unwrap();
    for turn in 0..TURNS {
        let value = format!("{number} {turn}");
        let body = json!({ "name": "keep-alive", "value": value }).to_string();
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => Connection::open(addr).await.unwrap(),
        };
        let sent = connection.send(post("/ping", body)).await;
        match connection.next().await {
            Next::Response(response) if response.status == 200 => {
                let is_own = response.message().starts_with(&format!("keep-alive {value} ( "));
                if !is_own {
                    failures.push(format!("another request's response: {response:?}"));
                }
                kept = Some(connection);
            }
            other => failures.push(format!("{sent:?}, {other:?}")),
        }
        sleep(idle).await;
        if is_balancer && idle >= PROXY_IDLE {
            kept = None;
        }
    }
    failures
}

// === impl Relay ===

impl Relay {
    async fn start(gateway: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                // An error of either side closes both.
                tokio::spawn(async move { relay(client, TcpStream::connect(gateway).await?).await });
            }
        });
        Self { addr, connections }
    }
}

async fn relay(client: TcpStream, gateway: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    gateway.set_nodelay(true)?;
    let (client, gateway) = (client.into_split(), gateway.into_split());
    tokio::try_join!(pump(client.0, gateway.1), pump(gateway.0, client.1))?;
    Ok(())
}

/// Copies bytes and the FIN after a delay.
async fn pump(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin) -> io::Result<()> {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut bytes).await?;
        sleep(DELAY).await;
        match bytes.get(..count).unwrap_or_default() {
            [] => return to.shutdown().await,
            bytes => to.write_all(bytes).await?,
        }
    }
}

/// nginx with connections to the gateway that are kept for `PROXY_IDLE`. It does not repeat a POST.
fn config(upstream: SocketAddr, addr: SocketAddr) -> String {
    let idle = PROXY_IDLE.as_millis();
    format!(
        "events {{ worker_connections 1024; }}\n\
         http {{\nupstream gateway {{\nserver {upstream};\nkeepalive {CLIENTS};\nkeepalive_timeout {idle}ms;\n}}\n\
         server {{\nlisten {addr};\nkeepalive_timeout 60s;\nlocation / {{\nproxy_pass http://gateway;\n\
         proxy_http_version 1.1;\nproxy_set_header Connection \"\";\n}}\n}}\n}}\n"
    )
}
