//! Every error response of the gateway: status, body, headers, and that nothing is produced.

use std::time::Duration;

use e2e::{
    closed_port::ClosedPort,
    engine::Engine,
    fixture::Fixture,
    http::{Connection, Next, get, post, request},
    process::Process,
    wait::{WAIT_LIMIT, until, within},
};
use tokio::time::Instant;

fn error(status: u16, error: &str) -> (u16, String) {
    (status, error.to_owned())
}

/// Nothing was produced and nothing is in flight.
async fn assert_nothing_sent(fixture: &Fixture, gateway: &Process) {
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
    let series = "gateway_requests_total{outcome=\"body_too_large\",status=\"413\"}";
    assert_eq!(gateway.metric(series).await, 3);
}

pub(crate) async fn malformed_http_returns_400(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let gateway = fixture.gateway().ready().await;

    let many_headers: String = (0..101).map(|n| format!("h{n}: v\r\n")).collect();
    let long_header = format!("h: {}\r\n", "v".repeat(500 * 1024));
    let long_uri = "u".repeat(70_000);
    let post = |headers: &str, rest: &str| format!("POST /ping HTTP/1.1\r\n{headers}\r\n\r\n{rest}");
    let chunked = |rest: &str| post("transfer-encoding: chunked", rest);
    // Request smuggling: one request by the length, two by the chunks.
    let hidden = "0\r\n\r\nGET /ping HTTP/1.1\r\n\r\n";
    let mut cases = vec![
        ("nonsense\r\n\r\n".to_owned(), &[400][..]),
        ("GET /ping HTTP/9.9\r\n\r\n".to_owned(), &[400, 505]),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), &[400, 505]),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}".to_owned(), &[400]),
        (format!("GET /ping HTTP/1.1\r\n{many_headers}\r\n"), &[431]),
        (format!("GET /ping HTTP/1.1\r\n{long_header}\r\n"), &[431]),
        (format!("GET /{long_uri} HTTP/1.1\r\n\r\n"), &[414, 431]),
        ("GET /ping HTTP/1.1\rh: v\r\r".to_owned(), &[400]),
        (post("content-length: 18446744073709551615", ""), &[400, 413, 431]),
    ];
    let bad = |sent: String| (sent, &[400][..]);
    cases.extend(
        ["no colon", "space : v", " h: v", "h: a\r\n b", "h: a\0b", "h: a\rb"]
            .map(|line| bad(format!("GET /ping HTTP/1.1\r\n{line}\r\n\r\n"))),
    );
    cases.extend(
        [
            "content-length: 4\r\ntransfer-encoding: chunked",
            "transfer-encoding: chunked\r\ncontent-length: 4",
            "content-length: 5\r\ncontent-length: 6",
            "content-length: 5, 5",
            "content-length: +5",
            "content-length: -5",
            "content-length: 0x5",
            "content-length: 99999999999999999999",
            "transfer-encoding: xchunked",
            "transfer-encoding: chunked, identity",
            "transfer-encoding: chunked\r\ntransfer-encoding: identity",
        ]
        .map(|headers| bad(post(headers, hidden))),
    );
    cases.extend(
        [
            "xyz\r\n",
            "ffffffffffffffffff\r\n",
            "-1\r\n",
            "+1\r\nx\r\n0\r\n\r\n",
            "0x1\r\nx\r\n0\r\n\r\n",
            " 1\r\nx\r\n0\r\n\r\n",
            "\r\n",
            "1\nx\n0\n\n",
            "1\r\nxy0\r\n\r\n",
            "1;e\ne\r\nx\r\n0\r\n\r\n",
            "0\r\nno trailer\r\n\r\n",
        ]
        .map(|chunks| bad(chunked(chunks))),
    );
    cases.push(bad(format!(
        "POST /ping HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n{hidden}"
    )));
    for (sent, allowed) in cases {
        let mut connection = gateway.connect().await;
        // The gateway may close before it has read all of it.
        let _ = connection.send(&sent).await;
        let start: String = sent.chars().take(60).collect();
        // The reset after a close may discard the response.
        match connection.next().await {
            Next::Response(response) => assert!(allowed.contains(&response.status), "{start:?}: {response:?}"),
            Next::Closed => {}
            Next::Cut(bytes) => panic!("{start:?}: {}", bytes.escape_ascii()),
        }
        connection.closed().await;
    }
    assert_nothing_sent(&fixture, &gateway).await;
    assert_eq!(gateway.page("/live").await.0, 200);
}

/// The chunks decide the length (RFC 9112, 6.3), and the connection is closed. hyper removes the content-length header.
pub(crate) async fn content_length_beside_chunks_closes_the_connection(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (gateway, _worker) = fixture.pair().await;
    let words = r#"{"name":"n","value":"v"}"#;
    let body = format!(
        "{:x}\r\n{words}\r\n0\r\n\r\nGET /ping HTTP/1.1\r\nhost: test\r\n\r\n",
        words.len()
    );
    let lines = ["content-length: 4", "transfer-encoding: chunked"];
    let heads = [lines.join("\r\n"), [lines[1], lines[0]].join("\r\n")];
    for head in &heads {
        let mut connection = gateway.connect().await;
        let request = format!("POST /ping HTTP/1.1\r\nhost: test\r\n{head}\r\n\r\n{body}");
        connection.send(request).await.unwrap();
        let response = connection.response().await;
        assert_eq!(
            (response.status, response.header("connection")),
            (200, Some("close")),
            "{head:?}"
        );
        let rest = connection.closed().await;
        assert!(rest.is_empty(), "{head:?}: {}", rest.escape_ascii());
    }
    assert_eq!(fixture.ping().await.end().await, 2);
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

    for start in ["", "GET /ping HTTP/1.1\r\nhost: te"] {
        let connecting = Instant::now();
        let mut connection = gateway.connect().await;
        connection.send(start).await.unwrap();
        closed_after_a_second(connection, connecting).await;
    }
    // The timeout holds between two requests as well.
    let mut connection = gateway.connect().await;
    let asking = Instant::now();
    assert_eq!(connection.exchange(get("/")).await.status, 404);
    closed_after_a_second(connection, asking).await;
    assert_nothing_sent(&fixture, &gateway).await;
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
