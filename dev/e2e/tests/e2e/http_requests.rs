//! What HTTP/1.1 allows a client to send.

use std::fs;

use e2e::{
    engine::Engine,
    fixture::Fixture,
    http::{Connection, Next, get, post},
};
use futures_util::future::join_all;
use rustix::process::Signal;

const BODY: &str = r#"{"name":"a","value":"b"}"#;

pub(crate) async fn every_valid_form_of_a_request_is_accepted(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (gateway, _worker) = fixture.pair().await;
    let length = BODY.len();

    for (line, headers, body, words) in [
        (
            "GET /ping?a=b&c",
            "host: test".to_owned(),
            String::new(),
            "Ping Pong ( ",
        ),
        (
            "GET http://any/ping",
            "host: test".to_owned(),
            String::new(),
            "Ping Pong ( ",
        ),
        // The body of a GET is not the next request.
        (
            "GET /ping",
            format!("host: test\r\ncontent-length: {length}"),
            BODY.to_owned(),
            "Ping Pong ( ",
        ),
        (
            "POST /ping",
            format!("host: test\r\ncontent-length: {length}"),
            BODY.to_owned(),
            "a b ( ",
        ),
        (
            "POST /ping",
            format!("HOST: test\r\nCONTENT-TYPE: Application/JSON;charset=utf-8\r\nContent-Length:{length}"),
            BODY.to_owned(),
            "a b ( ",
        ),
        (
            "POST /ping",
            "host: test\r\ntransfer-encoding: chunked".to_owned(),
            format!("{length:x};e=1\r\n{BODY}\r\n0\r\nt: 1\r\n\r\n"),
            "a b ( ",
        ),
    ] {
        let request = format!("{line} HTTP/1.1\r\n{headers}\r\n\r\n{body}");
        let mut connection = gateway.connect().await;
        let message = connection.exchange(&request).await.message();
        assert!(message.starts_with(words), "{request:?}: {message}");
        // The same byte by byte, on the same connection.
        for byte in request.bytes() {
            connection.send([byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let message = connection.response().await.message();
        assert!(message.starts_with(words), "{request:?}: {message}");
    }
}

pub(crate) async fn expect_100_continue_is_answered(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (gateway, _worker) = fixture.pair().await;

    let mut connection = gateway.connect().await;
    let lines = format!("expect: 100-continue\r\ncontent-length: {}", BODY.len());
    let head = format!("POST /ping HTTP/1.1\r\nhost: test\r\n{lines}\r\n\r\n");
    assert_eq!(connection.exchange(head).await.status, 100);
    assert!(connection.exchange(BODY).await.message().starts_with("a b ( "));
}

pub(crate) async fn pipelined_requests_are_answered_in_order(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (gateway, _worker) = fixture.pair().await;

    let requests: Vec<u8> = (0..50)
        .flat_map(|n| post("/ping", format!(r#"{{"name":"turn","value":"{n}"}}"#)))
        .collect();
    let mut connection = gateway.connect().await;
    connection.send(requests).await.unwrap();
    for n in 0..50 {
        let message = connection.response().await.message();
        assert!(message.starts_with(&format!("turn {n} ( ")), "{message}");
    }
}

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

pub(crate) async fn large_bodies_are_answered(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (gateway, _worker) = tokio::join!(
        fixture.gateway().set("MAX_BODY", "512KiB").ready(),
        fixture.worker().ready()
    );

    let mut connection = gateway.connect().await;
    // Around the sizes of a TCP segment of the loopback, of the write buffer, of the default limit, and of the largest.
    for bytes in [1, 7_000, 7_400, 7_680, 8_192, 9_000, 65_536, 200_000, 500_000] {
        // JSON escapes double the length of `"`.
        let name = "\"".repeat(bytes / 4);
        let value = "ä".repeat(bytes / 4);
        let body = serde_json::json!({ "name": name, "value": value }).to_string();
        let response = connection.exchange(post("/ping", body)).await;
        let message = response.message();
        assert!(message.starts_with(&format!("{name} {value} ( ")), "{bytes} bytes");
        // The gateway does not keep the buffer of a large response: it closes the connection.
        let is_last = response.header("connection") == Some("close");
        assert_eq!(is_last, response.body.len() > 16 * 1024, "{bytes} bytes");
        if is_last {
            assert!(matches!(connection.next().await, Next::Closed), "{bytes} bytes");
            connection = gateway.connect().await;
        }
    }
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
