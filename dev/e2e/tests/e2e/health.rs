//! The admin listener, the health check command, and logs that cannot be written.

use std::{
    fs::File,
    io::Write,
    net::SocketAddr,
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use e2e::{
    binaries,
    closed_port::ClosedPort,
    engine::Engine,
    fixture::Fixture,
    http::{self, Connection},
    process::{Process, Setup},
    topic::record,
    wait::{WAIT_LIMIT, until, within},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

pub(crate) async fn admin_listener_serves_live_ready_and_metrics(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (gateway, worker) = fixture.pair().await;
    assert_eq!(gateway.get("/ping").await.status, 200);

    for process in [&gateway, &worker] {
        assert_eq!(process.page("/live").await, (200, "live\n".to_owned()));
        assert_eq!(process.page("/ready").await.0, 200);
        assert_eq!(process.page("/").await.0, 404);
        let response = http::exchange(process.admin(), http::request("POST", "/ready", &[], "")).await;
        assert_eq!((response.status, response.header("allow")), (405, Some("GET, HEAD")));
    }
    let response = http::exchange(gateway.admin(), http::get("/metrics")).await;
    let content_type = response.header("content-type").unwrap();
    assert!(
        content_type.starts_with("application/openmetrics-text"),
        "{content_type}"
    );
    assert!(response.text().ends_with("# EOF\n"), "{}", response.text());
    assert_eq!(
        gateway
            .metric("gateway_requests_total{outcome=\"answered\",status=\"200\",route=\"GET, POST /ping\"}")
            .await,
        1
    );
    assert_eq!(
        gateway
            .metric("gateway_request_duration_seconds_count{route=\"GET, POST /ping\"}")
            .await,
        1
    );
    assert_eq!(gateway.metric("gateway_replies_total{kind=\"answered\"}").await, 1);
    assert_eq!(worker.metric("worker_requests_total").await, 1);
    worker
        .until_metric("worker_replies_total{fate=\"acknowledged\"}", 1)
        .await;
    let topic = fixture.ping_name();
    let lag = format!("worker_kafka_tail_lag_records{{topic=\"{topic}\",partition=\"0\"}}");
    assert_eq!(worker.metric(&lag).await, 0);
}

/// Runs the health check command against a process, and returns its exit code and stderr.
async fn check(process: &Process, setup: Setup) -> (i32, String) {
    let addr = process.admin().to_string();
    let ended = setup.set("ADMIN_ADDR", &addr).arg("healthcheck").run().await;
    assert_eq!(ended.stdout, "");
    (ended.code, ended.stderr)
}

pub(crate) async fn healthcheck_follows_readiness(engine: &Engine) {
    let ready = Fixture::shared(engine).await;
    let (gateway, worker) = ready.pair().await;
    assert_eq!(check(&gateway, ready.gateway()).await, (0, String::new()));
    assert_eq!(check(&worker, ready.worker()).await, (0, String::new()));

    let closed_port = ClosedPort::reserve();
    let without_kafka = Fixture::at(&closed_port.addr());
    let (gateway, worker) = tokio::join!(without_kafka.gateway().start(), without_kafka.worker().start());
    let of_gateway: fn(&Fixture) -> Setup = Fixture::gateway;
    for (process, setup) in [(&gateway, of_gateway), (&worker, Fixture::worker)] {
        process.until_logged("not ready").await;
        // A connection attempt that timed out has another cause than the next one.
        until("the cause is reported", WAIT_LIMIT, async || {
            let (code, stderr) = check(process, setup(&without_kafka)).await;
            assert_eq!(code, 1);
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
            assert!(stderr.contains(&process.admin().to_string()), "{stderr}");
            (stderr.contains(&closed_port.addr()) && stderr.contains("refused")).then_some(())
        })
        .await;
        assert_eq!(process.page("/live").await.0, 200);
    }
}

pub(crate) async fn healthcheck_without_listener_exits_1() {
    let closed_port = ClosedPort::reserve();
    let fixture = Fixture::at(&closed_port.addr());
    for setup in [fixture.gateway(), fixture.worker()] {
        let ended = setup
            .set("ADMIN_ADDR", closed_port.addr())
            .arg("healthcheck")
            .run()
            .await;
        assert_eq!(ended.code, 1);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert!(ended.stderr.contains(&closed_port.addr()), "{}", ended.stderr);
    }
}

pub(crate) async fn full_disk_for_the_log_does_not_stop_the_worker() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (mut worker, addr) = start_into(full.into(), &[("KAFKA_BROKERS", &ClosedPort::reserve().addr())]);
    until("the worker is live", WAIT_LIMIT, async || {
        assert_eq!(worker.try_wait().unwrap(), None);
        (page(addr, "/live").await? == "live\n").then_some(())
    })
    .await;
    assert_ends(&mut worker).await;
}

/// The reader of the log hangs, and there are more lines than the queue holds: the worker stays live and drops lines.
pub(crate) async fn blocked_log_reader_drops_lines(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let ping = fixture.ping().await;
    let (_reader, full) = full_pipe();
    let (mut worker, addr) = start_into(
        full,
        &[
            ("KAFKA_BROKERS", fixture.brokers()),
            ("PING_TOPIC", fixture.ping_name()),
            ("PONG_TOPIC", fixture.pong_name()),
            ("START_FROM", "earliest"),
            ("RUST_LOG", "worker=debug"),
        ],
    );
    for _ in 0..20 {
        ping.write_batch(vec![record(None, Some(b"{}")); 1_000]).await;
    }
    until("lines are dropped", WAIT_LIMIT, async || {
        let metrics = page(addr, "/metrics").await?;
        let series = "worker_log_lines_dropped_total ";
        let dropped = metrics.lines().find_map(|line| line.strip_prefix(series))?;
        (dropped != "0").then_some(())
    })
    .await;
    assert_ends(&mut worker).await;
}

/// A socket whose buffer is full and stays full while its reader exists.
fn full_pipe() -> (UnixStream, OwnedFd) {
    let (reader, mut writer) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    while writer.write(&[b'.'; 4096]).is_ok() {}
    writer.set_nonblocking(false).unwrap();
    (reader, writer.into())
}

/// Starts a worker that logs to `output`, and returns the address of its admin listener.
fn start_into(output: OwnedFd, variables: &[(&str, &str)]) -> (Child, SocketAddr) {
    // The port cannot be read from the log, so the address is random.
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
    let response = Connection::open(addr).await.ok()?.exchange(http::get(path)).await;
    (response.status == 200).then(|| response.text().to_owned())
}

async fn assert_ends(worker: &mut Child) {
    kill_process(
        Pid::from_raw(worker.id().unwrap().try_into().unwrap()).unwrap(),
        Signal::TERM,
    )
    .unwrap();
    assert_eq!(
        within("the end of the worker", WAIT_LIMIT, worker.wait())
            .await
            .unwrap()
            .code(),
        Some(0)
    );
}
