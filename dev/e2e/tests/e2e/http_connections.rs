//! The life of a client's connection: how long it may be slow or idle, when it is closed, and how many there are.

use std::{fs, time::Duration};

use e2e::{
    engine::Engine,
    fixture::Fixture,
    http::{Connection, Next, get, post},
    wait::{WAIT_LIMIT, until, within},
};
use futures_util::future::join_all;
use rustix::process::Signal;
use tokio::time::Instant;

use crate::http_errors::{assert_nothing_sent, error};

pub(crate) async fn connection_close_and_keep_alive_are_honoured(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (gateway, _worker) = fixture.pair().await;

    for request in [
        "GET /ping HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n",
        "GET /ping HTTP/1.0\r\n\r\n",
    ] {
        let mut connection = gateway.connect().await;
        assert_eq!(connection.exchange(request).await.status, 200, "{request:?}");
        assert!(matches!(connection.next().await, Next::Closed), "{request:?}");
    }
    let mut connection = gateway.connect().await;
    for _ in 0..2 {
        let request = "GET /ping HTTP/1.0\r\nconnection: keep-alive\r\n\r\n";
        assert_eq!(connection.exchange(request).await.status, 200);
    }
}

/// How long the gateway drains the body of a request that it has refused.
const DRAIN_BODY_LIMIT: Duration = Duration::from_millis(250);

pub(crate) async fn unread_request_body_is_drained_or_closes_the_connection(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let gateway = fixture.gateway().ready().await;
    let head =
        |method: &str, path: &str, lines: &str| format!("{method} {path} HTTP/1.1\r\nhost: test\r\n{lines}\r\n\r\n");
    let refused = |lines: &str| {
        [
            (head("POST", "/nothing", lines), 404),
            (head("PUT", "/ping", lines), 405),
            (
                head("POST", "/ping", &format!("content-type: text/plain\r\n{lines}")),
                415,
            ),
        ]
    };

    // A body that is large, or does not arrive: the response closes the connection.
    let chunks = format!("4000\r\n{}\r\n", "c".repeat(0x4000)).repeat(2);
    for (lines, rest) in [
        ("content-length: 1000000", "begun"),
        ("content-length: 10", "begun"),
        ("content-length: 10\r\nexpect: 100-continue", ""),
        ("transfer-encoding: chunked", &chunks),
    ] {
        for (head, status) in refused(lines) {
            let mut connection = gateway.connect().await;
            let response = connection.exchange(head + rest).await;
            assert_eq!(response.status, status, "{lines}");
            assert_eq!(response.header("connection"), Some("close"), "{status} {lines}");
            assert!(matches!(connection.next().await, Next::Closed), "{status} {lines}");
        }
    }

    // A small body is drained, also when it arrives later.
    let hidden = get("/ping");
    let length = format!("content-length: {}", hidden.len());
    let chunk = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
    for (lines, rest) in [(&*length, &hidden), ("transfer-encoding: chunked", &chunk)] {
        for (head, status) in refused(lines) {
            let (mut connection, response) = loop {
                let mut connection = gateway.connect().await;
                let begun = Instant::now();
                connection.send(&head).await.unwrap();
                // The response to a later connection shows that the head has been read.
                assert_eq!(gateway.get("/").await.status, 404);
                // Repeated when this machine was too slow for the limit.
                if begun.elapsed() > DRAIN_BODY_LIMIT / 2 {
                    continue;
                }
                let response = connection.exchange(rest).await;
                if begun.elapsed() < DRAIN_BODY_LIMIT || response.header("connection").is_none() {
                    break (connection, response);
                }
            };
            assert_eq!(
                (response.status, response.header("connection")),
                (status, None),
                "{lines}"
            );
            assert_eq!(connection.exchange(get("/after")).await.status, 404, "{status} {lines}");
        }
    }
    assert_nothing_sent(&fixture, &gateway).await;
}

pub(crate) async fn connection_limit_returns_503(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (gateway, _worker) = tokio::join!(
        fixture
            .gateway()
            .set("MAX_CONNECTIONS", "2")
            .set("HEADER_TIMEOUT", "1m")
            .ready(),
        fixture.worker().ready()
    );

    let mut held = [gateway.connect().await, gateway.connect().await];
    for connection in &mut held {
        assert_eq!(connection.exchange(get("/ping")).await.status, 200);
    }
    let mut third = gateway.connect().await;
    let response = third.exchange(get("/ping")).await;
    assert_eq!(response.error(), error(503, "too many connections"));
    assert_eq!(response.header("retry-after"), Some("1"));
    assert_eq!(response.header("connection"), Some("close"));
    assert!(matches!(third.next().await, Next::Closed));

    let [mut kept, left] = held;
    assert_eq!(kept.exchange(get("/ping")).await.status, 200);
    drop(left);
    until("the closed connection is noticed", WAIT_LIMIT, async || {
        let response = gateway.get("/ping").await;
        (response.status == 200).then_some(())
    })
    .await;
}

pub(crate) async fn slow_head_closes_the_connection(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let gateway = fixture.gateway().set("HEADER_TIMEOUT", "1s").ready().await;

    for (is_later, start) in [(false, ""), (false, "GET /ping HTTP/1.1\r\nhost: te"), (true, "GET")] {
        let connecting = Instant::now();
        let mut connection = gateway.connect().await;
        if is_later {
            assert_eq!(connection.exchange(get("/")).await.status, 404);
        }
        connection.send(start).await.unwrap();
        closed_after_a_second(connection, connecting).await;
    }
    assert_nothing_sent(&fixture, &gateway).await;
}

/// An idle connection outlives `HEADER_TIMEOUT`, and is closed at `IDLE_TIMEOUT`.
pub(crate) async fn idle_connection_is_closed_at_the_idle_timeout(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let gateway = fixture
        .gateway()
        .set("HEADER_TIMEOUT", "1s")
        .set("IDLE_TIMEOUT", "4s")
        .ready()
        .await;

    let (mut used, mut idle) = (gateway.connect().await, gateway.connect().await);
    assert_eq!(used.exchange(get("/")).await.status, 404);
    assert_eq!(idle.exchange(get("/")).await.status, 404);
    let idle_since = Instant::now();
    // This one shows that the header timeout is over.
    let silent = gateway.connect().await;
    assert!(silent.closed().await.is_empty());
    assert_eq!(used.exchange(get("/")).await.status, 404);

    assert!(idle.closed().await.is_empty());
    assert!(
        idle_since.elapsed() > Duration::from_secs(3),
        "{:?}",
        idle_since.elapsed()
    );
}

/// It may be a client that has closed, or one that has only finished sending: both send a FIN.
pub(crate) async fn half_closed_client_is_answered(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (gateway, _worker) = fixture.pair().await;

    for request in [get("/ping").into_bytes(), post("/ping", r#"{"name":"a","value":"b"}"#)] {
        let mut connection = gateway.connect().await;
        connection.send(request).await.unwrap();
        connection.finish().await.unwrap();
        let response = connection.response().await;
        assert_eq!((response.status, response.header("connection")), (200, Some("close")));
        assert!(matches!(connection.next().await, Next::Closed));
    }
    // A body that ended early.
    let mut connection = gateway.connect().await;
    let head = "POST /ping HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\n{";
    connection.send(head).await.unwrap();
    connection.finish().await.unwrap();
    assert_eq!(connection.response().await.error(), error(400, "body not received"));
    assert_eq!(fixture.ping().await.end().await, 2);
}

async fn closed_after_a_second(connection: Connection, start: Instant) {
    let received = connection.closed().await;
    let waited = start.elapsed();
    assert!(
        received.is_empty() || received.starts_with(b"HTTP/1.1 408 "),
        "{}",
        received.escape_ascii()
    );
    assert!(
        (Duration::from_millis(900)..Duration::from_secs(10)).contains(&waited),
        "{waited:?}"
    );
}

pub(crate) async fn client_that_reads_no_responses_is_closed(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let gateway = fixture.gateway().set("HEADER_TIMEOUT", "1s").ready().await;

    let mut connection = gateway.connect().await;
    let requests = get("/").repeat(1_000);
    // The gateway stops reading when its responses are not taken, and closes at the timeout.
    within("the connection is closed", WAIT_LIMIT, async {
        while connection.send(&requests).await.is_ok() {}
    })
    .await;
    assert_eq!(gateway.get("/").await.status, 404);
}

pub(crate) async fn descriptor_exhaustion_keeps_serving(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (gateway, _worker) = fixture.pair().await;
    let mut kept = gateway.connect().await;
    assert_eq!(kept.exchange(get("/ping")).await.status, 200);
    let admin = Connection::open(gateway.admin()).await.unwrap();
    gateway.limit_descriptors(64);

    let start = Instant::now();
    let mut connections = Vec::new();
    for _ in 0..100 {
        connections.push(gateway.connect().await);
    }
    let text = "cannot accept a connection";
    gateway.until_logged(text).await;
    // Open connections are served, and accept is retried every 50 ms at most.
    for _ in 0..20 {
        assert_eq!(kept.exchange(get("/ping")).await.status, 200);
    }
    let lines = gateway.log().iter().filter(|line| line.contains(text)).count();
    let pauses = start.elapsed().as_millis() / 50;
    // From both listeners.
    assert!(lines as u128 <= 2 * (pauses + 1), "{lines} lines in {pauses} pauses");

    drop((connections, admin));
    assert_eq!(gateway.get("/ping").await.status, 200);
}

/// More than a thousand clients connect while the gateway is stopped: the listen backlog keeps them.
pub(crate) async fn connection_burst_fits_into_the_backlog(engine: &Engine) {
    let gateway = Fixture::shared(engine).await.gateway().start().await;
    let limit = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let count = limit.trim().parse::<usize>().unwrap().min(1_500);

    gateway.signal(Signal::STOP);
    let connected = join_all((0..count).map(|_| Connection::open(gateway.http()))).await;
    gateway.signal(Signal::CONT);
    let statuses = connected
        .into_iter()
        .map(async |connection| connection.unwrap().exchange(get("/")).await.status);
    assert_eq!(join_all(statuses).await, vec![404; count]);
}
