//! What operators and probes see.

use std::{
    fs::File,
    io::Write,
    net::SocketAddr,
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use e2e::{
    binaries,
    engine::Engine,
    http::{self, Connection},
    nowhere::Nowhere,
    process::{Process, Setup},
    scene::Scene,
    topic::record,
    wait::{SOON, until, within},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

pub(crate) async fn is_said_by_the_admin_listener(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (gateway, worker) = scene.pair().await;
    assert_eq!(gateway.get("/ping").await.status, 200);

    for process in [&gateway, &worker] {
        assert_eq!(process.page("/live").await, (200, "live\n".to_owned()));
        assert_eq!(process.page("/ready").await.0, 200);
        assert_eq!(process.page("/").await.0, 404);
        let answer = http::ask(process.admin(), http::request("POST", "/ready", &[], "")).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
    }
    let answer = http::ask(gateway.admin(), http::get("/metrics")).await;
    let content_type = answer.header("content-type").unwrap();
    assert!(
        content_type.starts_with("application/openmetrics-text"),
        "{content_type}"
    );
    assert!(answer.text().ends_with("# EOF\n"), "{}", answer.text());
    assert_eq!(
        gateway
            .metric("gateway_requests_total{outcome=\"answered\",status=\"200\"}")
            .await,
        1
    );
    assert_eq!(gateway.metric("gateway_request_duration_seconds_count").await, 1);
    assert_eq!(gateway.metric("gateway_replies_total{kind=\"answered\"}").await, 1);
    assert_eq!(worker.metric("worker_requests_total").await, 1);
    worker
        .until_metric("worker_replies_total{fate=\"acknowledged\"}", 1)
        .await;
    assert_eq!(worker.metric("worker_kafka_tail_lag_records{partition=\"0\"}").await, 0);
}

async fn check(scene: &Scene, process: &Process, setup: Setup) -> (i32, String) {
    let addr = process.admin().to_string();
    let ended = setup.set("ADMIN_ADDR", &addr).arg("healthcheck").run().await;
    assert_eq!(ended.stdout, "", "{}", scene.brokers());
    (ended.code, ended.stderr)
}

pub(crate) async fn checks_follow_readiness(engine: &Engine) {
    let ready = Scene::shared(engine).await;
    let (gateway, worker) = ready.pair().await;
    assert_eq!(check(&ready, &gateway, ready.gateway()).await, (0, String::new()));
    assert_eq!(check(&ready, &worker, ready.worker()).await, (0, String::new()));

    let nowhere = Nowhere::reserve();
    let without_kafka = Scene::at(&nowhere.addr());
    let (gateway, worker) = tokio::join!(without_kafka.gateway().start(), without_kafka.worker().start());
    let of_gateway: fn(&Scene) -> Setup = Scene::gateway;
    for (process, setup) in [(&gateway, of_gateway), (&worker, Scene::worker)] {
        process.logged("not ready").await;
        // An attempt that took too long has another cause; the next one has not.
        until("the cause is told", SOON, async || {
            let (code, stderr) = check(&without_kafka, process, setup(&without_kafka)).await;
            assert_eq!(code, 1);
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
            assert!(stderr.contains(&process.admin().to_string()), "{stderr}");
            (stderr.contains(&nowhere.addr()) && stderr.contains("refused")).then_some(())
        })
        .await;
        assert_eq!(process.page("/live").await.0, 200);
    }
}

pub(crate) async fn checks_fail_where_nobody_listens() {
    let nowhere = Nowhere::reserve();
    let scene = Scene::at(&nowhere.addr());
    for setup in [scene.gateway(), scene.worker()] {
        let ended = setup.set("ADMIN_ADDR", nowhere.addr()).arg("healthcheck").run().await;
        assert_eq!(ended.code, 1);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert!(ended.stderr.contains(&nowhere.addr()), "{}", ended.stderr);
    }
}

/// A full disk, or a log collector that is gone.
pub(crate) async fn does_not_depend_on_the_log() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    lives_and_ends(&Nowhere::reserve().addr(), full.into()).await;
}

/// A log collector that hangs, or a terminal that somebody has stopped.
pub(crate) async fn does_not_depend_on_who_reads_the_log() {
    let (_nobody_reads, stuffed) = stuffed();
    lives_and_ends(&Nowhere::reserve().addr(), stuffed).await;
}

async fn lives_and_ends(brokers: &str, output: OwnedFd) {
    let (mut worker, addr) = start_into(output, &[("KAFKA_BROKERS", brokers)]);
    until("it is live", SOON, async || {
        assert_eq!(worker.try_wait().unwrap(), None);
        (page(addr, "/live").await? == "live\n").then_some(())
    })
    .await;
    assert_ends(&mut worker).await;
}

/// The same, and there is more to say than may wait.
pub(crate) async fn does_not_depend_on_a_log_that_is_full(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let ping = scene.ping().await;
    let (_nobody_reads, stuffed) = stuffed();
    let (mut worker, addr) = start_into(
        stuffed,
        &[
            ("KAFKA_BROKERS", scene.brokers()),
            ("PING_TOPIC", scene.ping_name()),
            ("PONG_TOPIC", scene.pong_name()),
            ("START_FROM", "earliest"),
            ("RUST_LOG", "worker=debug"),
        ],
    );
    for _ in 0..20 {
        ping.write_batch(vec![record(None, Some(b"{}")); 1_000]).await;
    }
    until("lines are dropped", SOON, async || {
        let metrics = page(addr, "/metrics").await?;
        let series = "worker_log_lines_dropped_total ";
        let dropped = metrics.lines().find_map(|it| it.strip_prefix(series))?;
        (dropped != "0").then_some(())
    })
    .await;
    assert_ends(&mut worker).await;
}

/// Takes nothing more, as long as the other end is there.
fn stuffed() -> (UnixStream, OwnedFd) {
    let (reader, mut writer) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    while writer.write(&[b'.'; 4096]).is_ok() {}
    writer.set_nonblocking(false).unwrap();
    (reader, writer.into())
}

/// A worker that says everything there, and where its admin listener is.
fn start_into(output: OwnedFd, variables: &[(&str, &str)]) -> (Child, SocketAddr) {
    // The log cannot say which port was free: an address of this test alone.
    let random = uuid::Uuid::new_v4().into_bytes();
    let addr = SocketAddr::from(([127, random[0], random[1], 1 + random[2] / 2], 8082));
    let worker = Command::new(binaries::worker())
        .env_clear()
        .env("ADMIN_ADDR", addr.to_string())
        .envs(variables.iter().copied())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    (worker, addr)
}

async fn page(addr: SocketAddr, path: &str) -> Option<String> {
    let answer = Connection::open(addr).await.ok()?.ask(http::get(path)).await;
    (answer.status == 200).then(|| answer.text().to_owned())
}

async fn assert_ends(worker: &mut Child) {
    kill_process(
        Pid::from_raw(worker.id().unwrap().try_into().unwrap()).unwrap(),
        Signal::TERM,
    )
    .unwrap();
    assert_eq!(within("its end", SOON, worker.wait()).await.unwrap().code(), Some(0));
}
