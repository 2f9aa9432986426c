//! Shutdown: the first signal drains, the second one exits at once.

use std::{cell::Cell, collections::BTreeSet, time::Duration};

use e2e::{
    closed_port::ClosedPort,
    engine::Engine,
    fixture::Fixture,
    http::{Connection, Next, get, post},
    process::Process,
    topic::record,
    wait::{WAIT_LIMIT, until},
};
use futures_util::future::join_all;
use rskafka::record::Record;
use rustix::process::Signal;
use serde_json::json;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

/// How long a draining gateway keeps idle connections open. A later request may find its connection closed.
const KEEP_ALIVE_GRACE: Duration = Duration::from_millis(250);

/// Less than the default of `DRAIN_TIMEOUT`, 8 s.
const BELOW_DEFAULT_DRAIN: Duration = Duration::from_secs(7);

async fn until_refused(gateway: &Process) {
    until("new connections are refused", WAIT_LIMIT, async || {
        Connection::open(gateway.http()).await.is_err().then_some(())
    })
    .await;
}

/// Sends requests on one connection until a response closes it.
async fn send_until_closed(gateway: &Process, name: usize, answered: &Cell<u32>, signalled: &Cell<Option<Instant>>) {
    let mut connection = gateway.connect().await;
    for turn in 0.. {
        let value = format!("turn {turn}");
        let body = json!({ "name": format!("caller {name}"), "value": value }).to_string();
        let sent = connection.send(post("/ping", body)).await;
        match connection.next().await {
            Next::Response(response) => {
                assert!(response.message().starts_with(&format!("caller {name} {value} ( ")));
                answered.set(answered.get() + 1);
                if response.header("connection") == Some("close") {
                    assert!(matches!(connection.next().await, Next::Closed));
                    return;
                }
            }
            Next::Closed if signalled.get().is_some_and(|at| at.elapsed() > KEEP_ALIVE_GRACE) => return,
            other => panic!("a request was cut off: {sent:?}, {other:?}"),
        }
    }
}

pub(crate) async fn gateway_shutdown_cuts_no_request_off(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (mut gateway, _worker) = fixture.pair().await;

    let (answered, signalled_at) = (Cell::new(0), Cell::new(None));
    let callers = (0..16).map(|name| send_until_closed(&gateway, name, &answered, &signalled_at));
    let signalled = async {
        until("the load runs", WAIT_LIMIT, async || {
            (answered.get() > 500).then_some(())
        })
        .await;
        let signalled = Instant::now();
        signalled_at.set(Some(signalled));
        gateway.signal(Signal::TERM);
        until_refused(&gateway).await;
        signalled
    };
    let (_, signalled) = tokio::join!(join_all(callers), signalled);

    assert_eq!(gateway.exit(Duration::from_secs(9)).await, 0);
    assert!(
        signalled.elapsed() < Duration::from_secs(9),
        "{:?}",
        signalled.elapsed()
    );
}

/// The gateway is stopped and reads the requests only after the grace.
pub(crate) async fn request_sent_before_the_keep_alive_grace_ends_is_answered(engine: &Engine) {
    loop {
        let fixture = Fixture::shared(engine).await;
        let (mut gateway, _worker) = fixture.pair().await;
        let idle = (0..20).map(async |_| {
            let mut connection = gateway.connect().await;
            assert_eq!(connection.exchange(get("/ping")).await.status, 200);
            connection
        });
        let mut idle = join_all(idle).await;

        let signalled = Instant::now();
        gateway.signal(Signal::TERM);
        until_refused(&gateway).await;
        gateway.signal(Signal::STOP);
        // Repeated when this machine was too slow for the grace.
        if signalled.elapsed() > KEEP_ALIVE_GRACE {
            continue;
        }
        for connection in &mut idle {
            connection.send(get("/ping")).await.unwrap();
        }
        sleep_until(signalled + 2 * KEEP_ALIVE_GRACE).await;
        gateway.signal(Signal::CONT);
        let responses = idle
            .iter_mut()
            .map(async |connection| connection.response().await.status);
        assert_eq!(join_all(responses).await, [200; 20]);
        assert_eq!(gateway.exit(WAIT_LIMIT).await, 0);
        return;
    }
}

/// The clients are connected, but the gateway has not accepted them at the signal.
pub(crate) async fn connections_in_the_backlog_are_answered(engine: &Engine) {
    let mut gateway = Fixture::shared(engine).await.gateway().start().await;

    gateway.signal(Signal::STOP);
    let connecting = (0..500).map(async |_| {
        let mut connection = Connection::open(gateway.http()).await.unwrap();
        connection.send(get("/")).await.unwrap();
        connection
    });
    let connected = join_all(connecting).await;
    gateway.signal(Signal::TERM);
    gateway.signal(Signal::CONT);
    let responses = connected
        .into_iter()
        .map(async |mut connection| connection.response().await.status);
    assert_eq!(join_all(responses).await, vec![404; 500]);
    assert_eq!(gateway.exit(Duration::from_secs(9)).await, 0);
}

pub(crate) async fn gateway_shutdown_waits_for_replies(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let mut gateway = fixture.gateway().set("DRAIN_TIMEOUT", "60s").ready().await;
    let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());
    let mut callers = Vec::new();
    for _ in 0..5 {
        let mut caller = gateway.connect().await;
        caller.send(get("/ping")).await.unwrap();
        callers.push(caller);
    }
    let mut idle = gateway.connect().await;
    assert_eq!(idle.exchange(get("/")).await.status, 404);
    let requests = ping.read(0, 5).await;

    gateway.signal(Signal::TERM);
    until_refused(&gateway).await;
    assert!(matches!(idle.next().await, Next::Closed));
    let (status, body) = gateway.page("/ready").await;
    assert_eq!(
        (status, body.as_str()),
        (503, r#"{"causes":{"serving":"shutting down"},"ready":false}"#)
    );
    assert_eq!(gateway.metric("gateway_in_flight").await, 5);

    pong.write_batch(
        requests
            .into_iter()
            .map(|request| record(request.record.key.as_deref(), Some(b"at last")))
            .collect(),
    )
    .await;
    for mut caller in callers {
        let response = caller.response().await;
        assert_eq!(response.message(), "at last");
        assert_eq!(response.header("connection"), Some("close"));
        assert!(matches!(caller.next().await, Next::Closed));
    }
    assert_eq!(gateway.exit(WAIT_LIMIT).await, 0);
}

pub(crate) async fn drain_timeout_returns_503(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let mut gateway = fixture.gateway().set("DRAIN_TIMEOUT", "1s").ready().await;
    let mut stuck = gateway.connect().await;
    stuck.send(get("/ping")).await.unwrap();
    let mut half_sent = gateway.connect().await;
    half_sent
        .send("POST /ping HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\n{")
        .await
        .unwrap();
    gateway.until_metric("gateway_in_flight", 1).await;

    let start = Instant::now();
    gateway.signal(Signal::TERM);
    let response = stuck.response().await;
    let waited = start.elapsed();

    assert_eq!(response.error(), (503, "shutting down".to_owned()));
    assert_eq!(response.header("connection"), Some("close"));
    // It may have been executed.
    assert_eq!(response.header("retry-after"), None);
    assert!(
        (Duration::from_millis(900)..BELOW_DEFAULT_DRAIN).contains(&waited),
        "{waited:?}"
    );
    assert_eq!(gateway.exit(WAIT_LIMIT).await, 0);
}

pub(crate) async fn second_signal_exits_at_once(engine: &Engine) {
    for (first, second, code) in [
        (Signal::TERM, Signal::TERM, 143),
        (Signal::INT, Signal::INT, 130),
        (Signal::TERM, Signal::INT, 130),
    ] {
        let fixture = Fixture::shared(engine).await;
        let mut gateway = fixture.gateway().set("DRAIN_TIMEOUT", "10m").ready().await;
        let mut stuck = gateway.connect().await;
        stuck.send(get("/ping")).await.unwrap();
        gateway.until_metric("gateway_in_flight", 1).await;

        gateway.signal(first);
        gateway.until_logged("shutting down").await;
        gateway.signal(second);
        assert_eq!(gateway.exit(WAIT_LIMIT).await, code);
    }
}

pub(crate) async fn idle_process_exits_at_once(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    for signal in [Signal::TERM, Signal::INT] {
        let (mut gateway, mut worker) = fixture.pair().await;
        for process in [&mut gateway, &mut worker] {
            process.signal(signal);
            assert_eq!(process.exit(BELOW_DEFAULT_DRAIN).await, 0);
        }
    }
}

pub(crate) async fn sigterm_without_kafka_exits_at_once() {
    let closed_port = ClosedPort::reserve();
    let fixture = Fixture::at(&closed_port.addr());
    let (mut gateway, mut worker) = tokio::join!(fixture.gateway().start(), fixture.worker().start());
    for process in [&mut gateway, &mut worker] {
        process.signal(Signal::TERM);
        assert_eq!(process.exit(BELOW_DEFAULT_DRAIN).await, 0);
    }
}

pub(crate) async fn worker_shutdown_answers_every_request_it_has_read(engine: &Engine) {
    Box::pin(shut_down_under_load(engine, 2_000, 10)).await;
    // Large replies fill the producer, so that the worker waits for it at the signal.
    Box::pin(shut_down_under_load(engine, 2, 300_000)).await;
}

/// Shuts a worker down while batches of `batch` requests of `bytes` bytes arrive without a pause.
async fn shut_down_under_load(engine: &Engine, batch: usize, bytes: usize) {
    let fixture = Fixture::shared(engine).await;
    let mut worker = fixture.worker().set("RUST_LOG", "info,worker=debug").ready().await;
    let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());

    let enough = i64::try_from(3 * batch).unwrap();
    let words = "w".repeat(bytes);
    let stop = Cell::new(false);
    let load = async {
        while !stop.get() {
            ping.write_batch((0..batch).map(|_| request(&words)).collect()).await;
        }
    };
    let signalled = async {
        until("the load runs", WAIT_LIMIT, async || {
            (pong.end().await > enough).then_some(())
        })
        .await;
        worker.signal(Signal::TERM);
        let code = worker.exit(Duration::from_secs(9)).await;
        stop.set(true);
        code
    };
    let ((), code) = tokio::join!(load, signalled);

    assert_eq!(code, 0);
    let read: BTreeSet<String> = worker.log().iter().filter_map(|line| received_id(line)).collect();
    let replies = pong.read_all().await;
    let count = replies.len();
    let answered: BTreeSet<String> = replies
        .into_iter()
        .map(|reply| String::from_utf8(reply.record.key.unwrap()).unwrap())
        .collect();
    assert_eq!(count, answered.len(), "a request has two replies");
    let unanswered: Vec<_> = read.difference(&answered).collect();
    assert!(unanswered.is_empty(), "read, but not answered: {unanswered:?}");
    assert_eq!(read.len(), count, "a request with a reply is not in the log");
    assert!(!worker.log().iter().any(|line| line.contains("unanswered")));
}

fn request(words: &str) -> Record {
    let id = Uuid::new_v4().to_string();
    let value = json!({ "id": id, "name": "n", "value": words }).to_string();
    record(Some(id.as_bytes()), Some(value.as_bytes()))
}

/// The id in `Received message offset=… value={"id":"…`, in which quotes are escaped.
fn received_id(line: &str) -> Option<String> {
    let (_, received) = line.split_once("Received message")?;
    let (_, id) = received.split_once(r#"id\":\""#)?;
    Some(id.get(..36)?.to_owned())
}
