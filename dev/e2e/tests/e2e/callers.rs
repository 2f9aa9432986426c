//! Callers of every kind that HTTP/1.1 allows.

use std::fs;

use e2e::{
    engine::Engine,
    http::{Connection, Next, get, post, request},
    scene::Scene,
};
use futures_util::future::join_all;
use rustix::process::Signal;

pub(crate) async fn may_write_a_request_in_any_form(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (gateway, _worker) = scene.pair().await;
    let body = r#"{"name":"a","value":"b"}"#;
    let length = body.len();

    for (sent, words) in [
        (
            "GET /ping?a=b&c HTTP/1.1\r\nhost: test\r\n\r\n".to_owned(),
            "Ping Pong ( ",
        ),
        (
            "GET http://anything/ping HTTP/1.1\r\nhost: test\r\n\r\n".to_owned(),
            "Ping Pong ( ",
        ),
        // A body that nobody asked for is not the next request.
        (
            format!("GET /ping HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n{body}"),
            "Ping Pong ( ",
        ),
        (
            format!("POST /ping HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n{body}"),
            "a b ( ",
        ),
        (
            format!(
                "POST /ping HTTP/1.1\r\nHOST: test\r\nCONTENT-TYPE: Application/JSON;charset=utf-8\r\nContent-Length:{length}\r\n\r\n{body}"
            ),
            "a b ( ",
        ),
        (
            format!(
                "POST /ping HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n{length:x};e=1\r\n{body}\r\n0\r\nt: 1\r\n\r\n"
            ),
            "a b ( ",
        ),
    ] {
        let mut connection = gateway.connect().await;
        for _ in 0..2 {
            let message = connection.ask(&sent).await.message();
            assert!(message.starts_with(words), "{sent:?}: {message}");
        }
    }
}

pub(crate) async fn may_send_byte_by_byte(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (gateway, _worker) = scene.pair().await;

    let mut connection = gateway.connect().await;
    for byte in post("/ping", r#"{"name":"a","value":"b"}"#) {
        connection.send([byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(connection.answer().await.message().starts_with("a b ( "));
}

pub(crate) async fn may_ask_before_they_send_a_body(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (gateway, _worker) = scene.pair().await;
    let body = r#"{"name":"a","value":"b"}"#;

    let mut connection = gateway.connect().await;
    let length = body.len();
    let head = format!("POST /ping HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n");
    assert_eq!(connection.ask(head).await.status, 100);
    assert!(connection.ask(body).await.message().starts_with("a b ( "));
}

pub(crate) async fn may_ask_ahead(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (gateway, _worker) = scene.pair().await;

    let requests: Vec<u8> = (0..50)
        .flat_map(|n| post("/ping", format!(r#"{{"name":"turn","value":"{n}"}}"#)))
        .collect();
    let mut connection = gateway.connect().await;
    connection.send(requests).await.unwrap();
    for n in 0..50 {
        let message = connection.answer().await.message();
        assert!(message.starts_with(&format!("turn {n} ( ")), "{message}");
    }
}

pub(crate) async fn decide_how_long_a_connection_lives(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (gateway, _worker) = scene.pair().await;

    for sent in [
        "GET /ping HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n",
        "GET /ping HTTP/1.0\r\n\r\n",
    ] {
        let mut connection = gateway.connect().await;
        assert_eq!(connection.ask(sent).await.status, 200, "{sent:?}");
        assert!(matches!(connection.next().await, Next::Closed), "{sent:?}");
    }
    let mut connection = gateway.connect().await;
    for _ in 0..2 {
        let sent = "GET /ping HTTP/1.0\r\nconnection: keep-alive\r\n\r\n";
        assert_eq!(connection.ask(sent).await.status, 200);
    }
}

pub(crate) async fn keep_their_connection_after_a_refusal(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (gateway, _worker) = scene.pair().await;

    let mut connection = gateway.connect().await;
    for (sent, status) in [
        (get("/nothing").into_bytes(), 404),
        (request("PUT", "/ping", &[], "a body that nobody reads"), 405),
        (
            request(
                "POST",
                "/ping",
                &["content-type: text/plain"],
                "GET /ping HTTP/1.1\r\n\r\n",
            ),
            415,
        ),
        (post("/ping", "no JSON"), 400),
        (post("/nothing", "GET /ping HTTP/1.1\r\n\r\n"), 404),
    ] {
        assert_eq!(connection.ask(sent).await.status, status);
        assert_eq!(connection.ask(get("/ping")).await.status, 200, "after {status}");
    }
    assert_eq!(scene.ping().await.end().await, 5);
}

pub(crate) async fn may_send_much(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (gateway, _worker) = tokio::join!(
        scene.gateway().set("MAX_BODY", "512KiB").ready(),
        scene.worker().ready()
    );

    let mut connection = gateway.connect().await;
    // Around the size of a frame, of the client's write buffer, of the default limit, and close to the largest.
    for bytes in [1, 7_000, 7_400, 7_680, 8_192, 9_000, 65_536, 200_000, 500_000] {
        // Escaped in JSON, each of these characters is twice as long.
        let name = "\"".repeat(bytes / 4);
        let value = "ä".repeat(bytes / 4);
        let body = serde_json::json!({ "name": name, "value": value }).to_string();
        let answer = connection.ask(post("/ping", body)).await;
        assert!(
            answer.message().starts_with(&format!("{name} {value} ( ")),
            "{bytes} bytes"
        );
        // The room for a large one is not kept for the life of a connection.
        let is_last = answer.header("connection") == Some("close");
        assert_eq!(is_last, answer.body.len() > 16 * 1024, "{bytes} bytes");
        if is_last {
            assert!(matches!(connection.next().await, Next::Closed), "{bytes} bytes");
            connection = gateway.connect().await;
        }
    }
}

/// More than a thousand connect while the gateway is not looking: the kernel keeps them all for it.
pub(crate) async fn may_come_all_at_once(engine: &Engine) {
    let gateway = Scene::shared(engine).await.gateway().start().await;
    let kernels = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let count = kernels.trim().parse::<usize>().unwrap().min(1_500);

    gateway.signal(Signal::STOP);
    let connecting = (0..count).map(|_| Connection::open(gateway.http()));
    let connected = join_all(connecting).await;
    gateway.signal(Signal::CONT);
    let asking = connected
        .into_iter()
        .map(async |it| it.unwrap().ask(get("/")).await.status);
    let statuses = join_all(asking).await;
    assert_eq!(statuses, vec![404; count]);
}
