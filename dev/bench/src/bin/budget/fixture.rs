//! Gateway, worker, broker and proxy, and the requests that are counted.

use std::{future::Future, net::SocketAddr, time::Duration};

use allocation_counter::AllocationInfo;
use anyhow::{Context, Result, ensure};
use bench::{Load, Mode, RequestKind, Until};
use broker::{Broker, Config};
use clap::Parser;
use gateway::Gateway;
use serde_json::{Value, json};
use shared::http_client;
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    time::{Instant, sleep},
};
use worker::binary;

use crate::{
    component::{Component, Counter},
    proxy::Proxy,
};

/// Counted requests, one at a time. Heartbeats and the like are spread over them.
const REQUESTS: u64 = 1_000;

/// Requests before the count: connections, tables and buffers reach their size.
const WARMUP_REQUESTS: u64 = 300;

/// Concurrent requests whose batches are counted.
const BURST: usize = 256;

/// Limit of each wait.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

struct Fixture {
    proxy: Proxy,
    http: SocketAddr,
    admin: SocketAddr,
    gateway: Component,
    worker: Component,
}

/// Starts everything, counts, and stops everything.
pub(crate) fn measure() -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let counter = Counter::new(2);
    let (stop, _) = watch::channel(());
    let (fixture, wire_bytes, batches) = runtime.block_on(async {
        let fixture = Fixture::start(&counter, &stop).await?;
        let wire_bytes = fixture.sequential_requests(&counter).await?;
        let batches = fixture.burst().await?;
        anyhow::Ok((fixture, wire_bytes, batches))
    })?;
    drop(stop);
    let [gateway_bytes, worker_bytes] = wire_bytes;
    Ok(json!({
        "requests": REQUESTS,
        "gateway": per_request(&fixture.gateway.join().context("gateway")?, gateway_bytes),
        "worker": per_request(&fixture.worker.join().context("worker")?, worker_bytes),
        "burst": { "requests": BURST, "batches": batches },
    }))
}

fn per_request(allocations: &AllocationInfo, wire_bytes: usize) -> Value {
    let average = |total: f64| (total / REQUESTS as f64 * 10.0).round() / 10.0;
    json!({
        "allocations": average(allocations.count_total as f64),
        "allocated_bytes": average(allocations.bytes_total as f64),
        "wire_bytes": average(wire_bytes as f64),
    })
}

// === impl Fixture ===

impl Fixture {
    async fn start(counter: &Counter, stop: &watch::Sender<()>) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let proxied = listener.local_addr()?;
        let mut config = Config::default();
        config.advertised = Some((proxied.ip().to_string(), proxied.port()));
        let broker = Broker::bind_with(("127.0.0.1", 0), config).await?;
        let proxy = Proxy::spawn(listener, broker.local_addr());
        tokio::spawn(broker.run(std::future::pending()));

        let args = |name: &'static str| {
            let brokers = proxied.to_string();
            [name, "--kafka-brokers", &brokers, "--admin-addr", "127.0.0.1:0"].map(str::to_owned)
        };
        let (started, worker_admin) = oneshot::channel();
        let settings = binary::Settings::try_parse_from(args("worker"))?;
        let stopped = stopped(stop);
        let worker = Component::spawn(counter, async move || {
            let worker = binary::bind(settings).await.map_err(|error| anyhow::anyhow!(error))?;
            // The receiver exists until both have started.
            let _ = started.send(worker.admin_addr()?);
            worker.run(stopped).await.map_err(|error| anyhow::anyhow!(error))
        });
        let (started, gateway_addrs) = oneshot::channel();
        let http_addr = ["--http-addr", "127.0.0.1:0"].map(str::to_owned);
        let settings = gateway::Settings::try_parse_from(args("gateway").into_iter().chain(http_addr))?;
        let stopped = self::stopped(stop);
        let gateway = Component::spawn(counter, async move || {
            let gateway = Gateway::bind(settings).await.map_err(|error| anyhow::anyhow!(error))?;
            let _ = started.send((gateway.http_addr()?, gateway.admin_addr()?));
            Ok(gateway.run(stopped).await?)
        });
        let worker_admin = worker_admin.await.context("the worker does not start")?;
        let (http, admin) = gateway_addrs.await.context("the gateway does not start")?;
        for addr in [worker_admin, admin] {
            wait_until("/ready returns 200", async || {
                let response = http_client::get(addr, "/ready").await;
                response.is_ok_and(|response| response.status == 200)
            })
            .await?;
        }
        Ok(Self {
            proxy,
            http,
            admin,
            gateway,
            worker,
        })
    }

    /// Requests one at a time. Returns the bytes between Kafka and the gateway, and between Kafka and the worker.
    async fn sequential_requests(&self, counter: &Counter) -> Result<[usize; 2]> {
        self.send(1, WARMUP_REQUESTS).await?;
        counter.start();
        let bytes = |client_id| self.proxy.traffic(client_id).bytes;
        let before = [bytes("gateway"), bytes("worker")];
        self.send(1, REQUESTS).await?;
        let after = [bytes("gateway"), bytes("worker")];
        counter.stop();
        Ok([after[0] - before[0], after[1] - before[1]])
    }

    /// Sends one request, and the others while the broker's response to its batch is held back. Returns the number of
    /// batches.
    async fn burst(&self) -> Result<usize> {
        let batches = || self.proxy.traffic("gateway").produce_requests;
        let before = batches();
        self.proxy.forward_responses(false);
        let rest = async {
            wait_until("the first batch is sent", async || batches() > before).await?;
            let release = async {
                let all = format!("gateway_in_flight {BURST}");
                wait_until("all requests are in flight", async || {
                    let metrics = http_client::get(self.admin, "/metrics").await;
                    metrics.is_ok_and(|response| response.body.lines().any(|line| line == all))
                })
                .await?;
                self.proxy.forward_responses(true);
                anyhow::Ok(())
            };
            tokio::try_join!(self.send(BURST - 1, u64::try_from(BURST - 1)?), release)
        };
        tokio::try_join!(self.send(1, 1), rest)?;
        Ok(batches() - before)
    }

    async fn send(&self, connections: usize, requests: u64) -> Result<()> {
        let load = Load {
            request: RequestKind::Get,
            until: Until::Requests(requests),
            ..Load::new(self.http, Mode::Closed { connections })
        };
        let report = load.run().await?;
        ensure!(
            report.outcomes.ok == requests,
            "not all responses were right:\n{report}"
        );
        Ok(())
    }
}

/// Resolves when `stop` is dropped.
fn stopped(stop: &watch::Sender<()>) -> impl Future<Output = ()> + Send + use<> {
    let mut stop = stop.subscribe();
    async move {
        // No value is ever sent.
        while stop.changed().await.is_ok() {}
    }
}

async fn wait_until(condition: &str, mut is_met: impl AsyncFnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + WAIT_TIMEOUT;
    while !is_met().await {
        ensure!(Instant::now() < deadline, "not within {WAIT_TIMEOUT:?}: {condition}");
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}
