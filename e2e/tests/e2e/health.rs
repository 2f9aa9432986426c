//! What operators and probes see.

use std::{
    fs::File,
    io::Write,
    net::SocketAddr,
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::Stdio,
};

use e2e::{
    binaries,
    engine::Engine,
    http::{self, Connection},
    nowhere::Nowhere,
    process::Process,
    scene::Scene,
    wait::{SOON, until, within},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;

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

async fn check(scene: &Scene, process: &Process, setup: e2e::process::Setup) -> (i32, String) {
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
    for (process, setup) in [(&gateway, without_kafka.gateway()), (&worker, without_kafka.worker())] {
        process.logged("not met").await;
        let (code, stderr) = check(&without_kafka, process, setup).await;
        assert_eq!(code, 1);
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains(&process.admin().to_string()), "{stderr}");
        assert!(
            stderr.contains(&nowhere.addr()) && stderr.contains("refused"),
            "{stderr}"
        );
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
    lives_and_ends_with(File::options().write(true).open("/dev/full").unwrap()).await;
}

/// A log collector that hangs, or a terminal that somebody has stopped.
pub(crate) async fn does_not_depend_on_who_reads_the_log() {
    let (_nobody_reads, mut stderr) = UnixStream::pair().unwrap();
    stderr.set_nonblocking(true).unwrap();
    while stderr.write(&[b'.'; 4096]).is_ok() {}
    stderr.set_nonblocking(false).unwrap();
    lives_and_ends_with(OwnedFd::from(stderr)).await;
}

async fn lives_and_ends_with(stderr: impl Into<Stdio>) {
    // The log cannot say which port was free: an address of this test alone.
    let random = uuid::Uuid::new_v4().into_bytes();
    let addr = SocketAddr::from(([127, random[0], random[1], 1 + random[2] / 2], 8082));
    let nowhere = Nowhere::reserve();
    let mut worker = Command::new(binaries::worker())
        .env_clear()
        .env("ADMIN_ADDR", addr.to_string())
        .env("KAFKA_BROKERS", nowhere.addr())
        .stderr(stderr)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let live = async || match Connection::open(addr).await {
        Ok(mut connection) => connection.ask(http::get("/live")).await.status == 200,
        Err(_) => false,
    };

    until("it is live", SOON, async || {
        assert_eq!(worker.try_wait().unwrap(), None);
        live().await.then_some(())
    })
    .await;
    kill_process(
        Pid::from_raw(worker.id().unwrap().try_into().unwrap()).unwrap(),
        Signal::TERM,
    )
    .unwrap();

    assert_eq!(within("its end", SOON, worker.wait()).await.unwrap().code(), Some(0));
}
