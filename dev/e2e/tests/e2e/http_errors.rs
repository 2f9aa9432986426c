//! Every error response of the gateway: status, body, headers, and that nothing is produced.

use std::time::Duration;

use e2e::{
    closed_port::ClosedPort,
    engine::Engine,
    fixture::Fixture,
    http::{Next, get, post, request},
    process::Process,
};
use tokio::time::Instant;

pub(crate) fn error(status: u16, error: &str) -> (u16, String) {
    (status, error.to_owned())
}

/// Nothing was produced and nothing is in flight.
pub(crate) async fn assert_nothing_sent(fixture: &Fixture, gateway: &Process) {
    assert_eq!(fixture.ping().await.end().await, 0);
    assert_eq!(gateway.metric("gateway_in_flight").await, 0);
}

pub(crate) async fn unknown_path_returns_404_and_method_405(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let gateway = fixture.gateway().ready().await;

    for path in [
        "/", "/ping/", "/Ping", "/pong", "/live", "/ready", "/metrics", "//ping", "/%70ing",
    ] {
        assert_eq!(gateway.get(path).await.error(), error(404, "not found"), "{path}");
        let response = gateway.exchange(request("DELETE", path, &[], "")).await;
        assert_eq!(response.error(), error(404, "not found"), "{path}");
    }
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get", "BREW"] {
        let response = gateway.exchange(request(method, "/ping", &[], "")).await;
        assert_eq!(response.error(), error(405, "method not allowed"), "{method}");
        assert_eq!(response.header("allow"), Some("GET, POST"), "{method}");
    }
    let response = gateway.exchange("HEAD /ping HTTP/1.1\r\nhost: test\r\n\r\n").await;
    assert_eq!((response.status, response.header("allow")), (405, Some("GET, POST")));
    assert_nothing_sent(&fixture, &gateway).await;
}

pub(crate) async fn invalid_body_returns_400_and_content_type_415(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let gateway = fixture.gateway().ready().await;

    // A complete body leaves the connection open.
    let mut connection = gateway.connect().await;
    let not_json = "body is not JSON: syntax error at line 1 column";
    let not_an_object = "body must be a JSON object with the strings \"name\" and \"value\"";
    for (body, text) in [
        (&b""[..], not_an_object),
        (b"{", not_json),
        (b"null", not_an_object),
        (b"\"name\"", not_an_object),
        (br#"["a","b"]"#, not_an_object),
        (br#" ["a","b"]"#, not_an_object),
        (br#"{"name":"a"}"#, "field \"value\" of the body is missing"),
        (br#"{"value":"b"}"#, "field \"name\" of the body is missing"),
        (
            br#"{"name":"a","value":null}"#,
            "field \"value\" of the body must be a string",
        ),
        (
            br#"{"name":1,"value":"b"}"#,
            "field \"name\" of the body must be a string",
        ),
        (
            br#"{"name":"a","value":["b"]}"#,
            "field \"value\" of the body must be a string",
        ),
        (br#"{"Name":"a","Value":"b"}"#, "field \"name\" of the body is missing"),
        (
            br#"{"name":"a","name":"a","value":"b"}"#,
            "field \"name\" of the body occurs twice",
        ),
        (br#"{"name":"a","value":"b"} x"#, not_json),
        (
            b"{\"name\":\"\xff\",\"value\":\"b\"}",
            "body is not UTF-8: invalid byte at offset 9",
        ),
        (br#"{"name":"\ud800","value":"b"}"#, not_json),
        (
            b"{\"name\":\"line\nbreak\",\"value\":\"b\"}",
            "body is not JSON: syntax error at line",
        ),
    ] {
        let response = connection.exchange(post("/ping", body)).await;
        let (status, error) = response.error();
        assert_eq!(status, 400, "{}", body.escape_ascii());
        assert!(error.starts_with(text), "{error}: {}", body.escape_ascii());
    }
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json-seq",
        "",
        "json",
    ] {
        let header = format!("content-type: {content_type}");
        let sent = request("POST", "/ping", &[&header], r#"{"name":"a","value":"b"}"#);
        let response = connection.exchange(sent).await;
        let expected = error(415, "content-type must be application/json");
        assert_eq!(response.error(), expected, "{content_type}");
    }
    assert_nothing_sent(&fixture, &gateway).await;
}

pub(crate) async fn large_body_returns_413(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (gateway, _worker) = tokio::join!(
        fixture.gateway().set("MAX_BODY", "1KiB").ready(),
        fixture.worker().ready()
    );
    let body = |bytes: usize| {
        let rest = bytes - r#"{"name":"","value":""}"#.len();
        format!(r#"{{"name":"{}","value":""}}"#, "n".repeat(rest))
    };
    let chunked = |body: &str| {
        let head = "POST /ping HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n";
        let chunks: String = body
            .as_bytes()
            .chunks(100)
            .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)))
            .collect();
        format!("{head}{chunks}0\r\n\r\n")
    };
    let too_large = error(413, "body too large");

    let largest = body(1024);
    assert!(gateway.post("/ping", &largest).await.message().starts_with("nnn"));
    assert!(gateway.exchange(chunked(&largest)).await.message().starts_with("nnn"));

    for sent in [post("/ping", body(1025)), chunked(&body(1025)).into_bytes()] {
        let mut connection = gateway.connect().await;
        let response = connection.exchange(sent).await;
        assert_eq!(response.error(), too_large);
        // The rest of the body must not be parsed as a request.
        assert_eq!(response.header("connection"), Some("close"));
        assert!(matches!(connection.next().await, Next::Closed));
    }
    // The header alone decides: no 100 Continue.
    let head = "POST /ping HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 1025\r\n\r\n";
    assert_eq!(gateway.exchange(head).await.error(), too_large);

    assert_eq!(fixture.ping().await.end().await, 2);
    let series = "gateway_requests_total{outcome=\"body_too_large\",status=\"413\",route=\"GET, POST /ping\"}";
    assert_eq!(gateway.metric(series).await, 3);
}

pub(crate) async fn not_ready_returns_503() {
    let closed_port = ClosedPort::reserve();
    let gateway = Fixture::at(&closed_port.addr()).gateway().start().await;

    for sent in [get("/ping").into_bytes(), post("/ping", r#"{"name":"a","value":"b"}"#)] {
        let response = gateway.exchange(sent).await;
        assert_eq!(response.error(), error(503, "not ready"));
        assert_eq!(response.header("retry-after"), Some("1"));
    }
    // An error in the head comes first, then admission. The body is read last.
    assert_eq!(gateway.get("/").await.status, 404);
    assert_eq!(gateway.post("/ping", "{").await.error(), error(503, "not ready"));

    // The response does not wait for the body, and the client is not asked to send it.
    let head = "POST /ping HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 30\r\n\r\n";
    let response = gateway.exchange(head).await;
    assert_eq!(response.error(), error(503, "not ready"));
    assert_eq!(response.header("connection"), Some("close"));
}

pub(crate) async fn in_flight_limit_returns_503(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let gateway = fixture
        .gateway()
        .set("MAX_IN_FLIGHT", "1")
        .set("REPLY_TIMEOUT", "60s")
        .ready()
        .await;
    let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());

    let mut first = gateway.connect().await;
    first.send(get("/ping")).await.unwrap();
    gateway.until_metric("gateway_in_flight", 1).await;
    for _ in 0..3 {
        let response = gateway.get("/ping").await;
        assert_eq!(response.error(), error(503, "too many requests in flight"));
        assert_eq!(response.header("retry-after"), Some("1"));
    }

    // The first request is answered, and its place is free again.
    for (offset, text) in [(0, "one"), (1, "two")] {
        let request = ping.read_one(offset).await;
        pong.write(request.key.as_deref(), Some(text.as_bytes())).await;
        assert_eq!(first.response().await.message(), text);
        gateway.until_metric("gateway_in_flight", 0).await;
        if offset == 0 {
            first.send(get("/ping")).await.unwrap();
        }
    }
    assert_eq!(ping.end().await, 2);
}

pub(crate) async fn slow_body_returns_408(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let gateway = fixture.gateway().set("HEADER_TIMEOUT", "1s").ready().await;

    let mut connection = gateway.connect().await;
    let start = Instant::now();
    let response = connection
        .exchange("POST /ping HTTP/1.1\r\nhost: test\r\ncontent-length: 20\r\n\r\n{")
        .await;

    assert_eq!(response.error(), error(408, "body not received in time"));
    assert_eq!(response.header("connection"), Some("close"));
    assert!(start.elapsed() >= Duration::from_millis(900));
    assert!(matches!(connection.next().await, Next::Closed));
    assert_nothing_sent(&fixture, &gateway).await;
}
