//! The parts put together, and what is counted of them.

use std::{future::Future, net::SocketAddr, time::Duration};

use allocation_counter::AllocationInfo;
use anyhow::{Context, Result, bail, ensure};
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
use worker::Worker;

use crate::{
    part::{Counting, Part},
    proxy::{Proxy, Traffic},
};

/// Requests one at a time whose cost is counted; divides the cost of what does not happen each time.
const REQUESTS: u64 = 1_000;

/// Requests before that: connections, tables and buffers have their size.
const WARM_UP: u64 = 300;

/// Requests of the burst. They fit in the time that a produce may take, on any machine.
const BURST: usize = 256;

/// On anything that is waited for.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs the parts and counts.
pub(crate) fn count() -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let counting = Counting::of(2);
    let (stop, _) = watch::channel(());
    let scene = runtime.block_on(Scene::set(&counting, &stop))?;
    let one_by_one = runtime.block_on(scene.one_by_one(&counting))?;
    let frames = runtime.block_on(scene.burst())?;
    drop(stop);
    let gateway = scene.gateway.join().context("gateway")?;
    let worker = scene.worker.join().context("worker")?;
    let [to_gateway, to_worker] = one_by_one;
    Ok(json!({
        "requests": REQUESTS,
        "gateway": figures(&gateway, to_gateway),
        "worker": figures(&worker, to_worker),
        "burst": { "requests": BURST, "frames": frames },
    }))
}

fn figures(allocated: &AllocationInfo, wire_bytes: usize) -> Value {
    let each = |total: f64| (total / REQUESTS as f64 * 10.0).round() / 10.0;
    json!({
        "allocations": each(allocated.count_total as f64),
        "allocated_bytes": each(allocated.bytes_total as f64),
        "wire_bytes": each(wire_bytes as f64),
    })
}

/// All parts, ready.
struct Scene {
    proxy: Proxy,
    http: SocketAddr,
    admin: SocketAddr,
    gateway: Part,
    worker: Part,
}

// === impl Scene ===

impl Scene {
    async fn set(counting: &Counting, stop: &watch::Sender<()>) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let front = listener.local_addr()?;
        // Clients are told to come through the proxy.
        let mut config = Config::default();
        config.advertised = Some((front.ip().to_string(), front.port()));
        let broker = Broker::bind_with(("127.0.0.1", 0), config).await?;
        let proxy = Proxy::spawn(listener, broker.local_addr());
        tokio::spawn(broker.run(std::future::pending()));

        let brokers = front.to_string();
        let (tell, worker_admin) = oneshot::channel();
        let worker = Part::spawn(counting, {
            let (brokers, stopped) = (brokers.clone(), ended(stop));
            async move || {
                let args = ["worker", "--kafka-brokers", &brokers, "--admin-addr", "127.0.0.1:0"];
                let worker = Worker::bind(worker::Settings::try_parse_from(args)?).await?;
                // Whoever asked is still there.
                let _ = tell.send(worker.admin_addr()?);
                Ok(worker.run(stopped).await?)
            }
        });
        let (tell, gateway_addrs) = oneshot::channel();
        let gateway = Part::spawn(counting, {
            let stopped = ended(stop);
            async move || {
                let any = "127.0.0.1:0";
                let args = [
                    "gateway",
                    "--kafka-brokers",
                    &brokers,
                    "--http-addr",
                    any,
                    "--admin-addr",
                    any,
                ];
                let gateway = Gateway::bind(gateway::Settings::try_parse_from(args)?).await?;
                let _ = tell.send((gateway.http_addr()?, gateway.admin_addr()?));
                Ok(gateway.run(stopped).await?)
            }
        });
        let (http, admin) = gateway_addrs.await.context("the gateway does not start")?;
        for part in [worker_admin.await.context("the worker does not start")?, admin] {
            until("a part is ready", async || {
                http_client::get(part, "/ready").await.is_ok_and(|it| it.status == 200)
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

    /// Requests one at a time; gives the bytes between Kafka and each half.
    async fn one_by_one(&self, counting: &Counting) -> Result<[usize; 2]> {
        self.ask(1, WARM_UP).await?;
        counting.begin();
        let halves = ["gateway", "worker"];
        let before = halves.map(|it| self.proxy.traffic(it).bytes);
        self.ask(1, REQUESTS).await?;
        let after = halves.map(|it| self.proxy.traffic(it).bytes);
        counting.end();
        let [[gateway, worker], [from_gateway, from_worker]] = [after, before];
        Ok([gateway - from_gateway, worker - from_worker])
    }

    /// One request whose record is under way, and all others while Kafka does not answer: the outbox cuts them into
    /// frames. Gives the number of frames.
    async fn burst(&self) -> Result<usize> {
        let before = self.frames();
        self.proxy.set_open(false);
        let first = async {
            self.ask(1, 1).await?;
            anyhow::Ok(())
        };
        let rest = async {
            until("the first record is under way", async || self.frames() > before).await?;
            let others = async {
                self.ask(BURST - 1, u64::try_from(BURST - 1)?).await?;
                anyhow::Ok(())
            };
            let open = async {
                let all = format!("gateway_in_flight {BURST}");
                until("all wait", async || {
                    let metrics = http_client::get(self.admin, "/metrics").await;
                    metrics.is_ok_and(|it| it.body.lines().any(|line| line == all))
                })
                .await?;
                self.proxy.set_open(true);
                anyhow::Ok(())
            };
            tokio::try_join!(others, open)
        };
        tokio::try_join!(first, rest)?;
        Ok(self.frames() - before)
    }

    fn frames(&self) -> usize {
        let Traffic { frames, .. } = self.proxy.traffic("gateway");
        frames
    }

    async fn ask(&self, connections: usize, requests: u64) -> Result<()> {
        let report = Load {
            request: RequestKind::Get,
            until: Until::Requests(requests),
            ..Load::new(self.http, Mode::Closed { connections })
        }
        .run()
        .await?;
        ensure!(report.outcomes.ok == requests, "not all answers were right:\n{report}");
        Ok(())
    }
}

/// Resolves when `stop` is dropped.
fn ended(stop: &watch::Sender<()>) -> impl Future<Output = ()> + Send + use<> {
    let mut stopped = stop.subscribe();
    async move {
        // Nothing is ever sent: the end of the sender is the signal.
        while stopped.changed().await.is_ok() {}
    }
}

async fn until(what: &str, mut look: impl AsyncFnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !look().await {
        if Instant::now() > deadline {
            bail!("not within {LIMIT:?}: {what}");
        }
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}
