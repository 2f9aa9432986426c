//! Every way in which the gateway refuses a request: status, body, headers, and that nothing reaches Kafka.

use std::time::Duration;

use e2e::{
    engine::Engine,
    http::{Connection, Next, get, post, request},
    nowhere::Nowhere,
    process::Process,
    scene::Scene,
    wait::{SOON, until, within},
};
use tokio::time::Instant;

fn refusal(status: u16, error: &str) -> (u16, String) {
    (status, error.to_owned())
}

/// What is refused reaches neither Kafka nor the table of those who wait.
async fn nothing_was_sent(scene: &Scene, gateway: &Process) {
    assert_eq!(scene.ping().await.end().await, 0);
    assert_eq!(gateway.metric("gateway_in_flight").await, 0);
}

pub(crate) async fn of_a_path_or_a_method(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let gateway = scene.gateway().ready().await;

    for path in [
        "/", "/ping/", "/Ping", "/pong", "/live", "/ready", "/metrics", "//ping", "/%70ing",
    ] {
        assert_eq!(gateway.get(path).await.error(), refusal(404, "not found"), "{path}");
        let answer = gateway.ask(request("DELETE", path, &[], "")).await;
        assert_eq!(answer.error(), refusal(404, "not found"), "{path}");
    }
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get", "BREW"] {
        let answer = gateway.ask(request(method, "/ping", &[], "")).await;
        assert_eq!(answer.error(), refusal(405, "method not allowed"), "{method}");
        assert_eq!(answer.header("allow"), Some("GET, POST"), "{method}");
    }
    let answer = gateway.ask("HEAD /ping HTTP/1.1\r\nhost: test\r\n\r\n").await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, POST")));
    nothing_was_sent(&scene, &gateway).await;
}

pub(crate) async fn of_a_body(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let gateway = scene.gateway().ready().await;

    let bad = refusal(
        400,
        "body must be a JSON object with the strings \"name\" and \"value\"",
    );
    for body in [
        &b""[..],
        b"{",
        b"null",
        b"\"name\"",
        br#"["a","b"]"#,
        br#" ["a","b"]"#,
        br#"{"name":"a"}"#,
        br#"{"value":"b"}"#,
        br#"{"name":"a","value":null}"#,
        br#"{"name":1,"value":"b"}"#,
        br#"{"name":"a","value":["b"]}"#,
        br#"{"Name":"a","Value":"b"}"#,
        br#"{"name":"a","name":"a","value":"b"}"#,
        br#"{"name":"a","value":"b"} x"#,
        b"{\"name\":\"\xff\",\"value\":\"b\"}",
        br#"{"name":"\ud800","value":"b"}"#,
        b"{\"name\":\"line\nbreak\",\"value\":\"b\"}",
    ] {
        let answer = gateway.post("/ping", body).await;
        assert_eq!(answer.error(), bad, "{}", body.escape_ascii());
    }
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json-seq",
        "",
        "json",
    ] {
        let header = format!("content-type: {content_type}");
        let answer = gateway
            .ask(request("POST", "/ping", &[&header], r#"{"name":"a","value":"b"}"#))
            .await;
        let expected = refusal(415, "content-type must be application/json");
        assert_eq!(answer.error(), expected, "{content_type}");
    }
    nothing_was_sent(&scene, &gateway).await;
}

pub(crate) async fn of_a_large_body(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (gateway, _worker) = tokio::join!(scene.gateway().set("MAX_BODY", "1KiB").ready(), scene.worker().ready());
    let body = |bytes: usize| {
        let rest = bytes - r#"{"name":"","value":""}"#.len();
        format!(r#"{{"name":"{}","value":""}}"#, "n".repeat(rest))
    };
    let chunked = |body: &str| {
        let head = "POST /ping HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n";
        let chunks: String = body
            .as_bytes()
            .chunks(100)
            .map(|it| format!("{:x}\r\n{}\r\n", it.len(), String::from_utf8_lossy(it)))
            .collect();
        format!("{head}{chunks}0\r\n\r\n")
    };
    let too_large = refusal(413, "body too large");

    let largest = body(1024);
    assert!(gateway.post("/ping", &largest).await.message().starts_with("nnn"));
    assert!(gateway.ask(chunked(&largest)).await.message().starts_with("nnn"));

    for sent in [post("/ping", body(1025)), chunked(&body(1025)).into_bytes()] {
        let mut connection = gateway.connect().await;
        let answer = connection.ask(sent).await;
        assert_eq!(answer.error(), too_large);
        // What is left of the body must not be taken for a request.
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(matches!(connection.next().await, Next::Closed));
    }
    // The length alone is enough, and a client that asks first need not send anything.
    let head = "POST /ping HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 1025\r\n\r\n";
    assert_eq!(gateway.ask(head).await.error(), too_large);

    assert_eq!(scene.ping().await.end().await, 2);
    let series = "gateway_requests_total{outcome=\"body_too_large\",status=\"413\"}";
    assert_eq!(gateway.metric(series).await, 3);
}

pub(crate) async fn of_malformed_http(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let gateway = scene.gateway().ready().await;

    let many_headers: String = (0..101).map(|n| format!("h{n}: v\r\n")).collect();
    let long_header = format!("h: {}\r\n", "v".repeat(500 * 1024));
    let long_uri = "u".repeat(70_000);
    let post = |headers: &str, rest: &str| format!("POST /ping HTTP/1.1\r\n{headers}\r\n\r\n{rest}");
    let chunked = |rest: &str| post("transfer-encoding: chunked", rest);
    // Whoever takes the length for the truth sees one request here, and whoever takes the chunks sees two.
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
        // It may close before it has read everything.
        let _ = connection.send(&sent).await;
        let start: String = sent.chars().take(60).collect();
        // A reset may overtake the answer; a close without one is as good.
        match connection.next().await {
            Next::Answer(answer) => assert!(allowed.contains(&answer.status), "{start:?}: {answer:?}"),
            Next::Closed => {}
            Next::Cut(bytes) => panic!("{start:?}: {}", bytes.escape_ascii()),
        }
        connection.closed().await;
    }
    nothing_was_sent(&scene, &gateway).await;
    assert_eq!(gateway.page("/live").await.0, 200);
}

/// A request with a length and with chunks counts by its chunks alone (RFC 9112, 6.3). The HTTP library does not tell of the
/// length; what is true of such a request is that nothing comes after it.
pub(crate) async fn of_what_is_hidden_behind_chunks(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (gateway, _worker) = scene.pair().await;
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
        let answer = connection.answer().await;
        assert_eq!(
            (answer.status, answer.header("connection")),
            (200, Some("close")),
            "{head:?}"
        );
        let rest = connection.closed().await;
        assert!(rest.is_empty(), "{head:?}: {}", rest.escape_ascii());
    }
    assert_eq!(scene.ping().await.end().await, 2);
}

/// How long the gateway waits for the rest of a body that nobody wants.
const LEFT_LIMIT: Duration = Duration::from_millis(250);

pub(crate) async fn leave_no_body_in_the_way(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let gateway = scene.gateway().ready().await;
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

    // What is large, what does not come, and what waits to be asked for: the answer says that this was all.
    let chunks = format!("4000\r\n{}\r\n", "c".repeat(0x4000)).repeat(2);
    for (lines, rest) in [
        ("content-length: 1000000", "begun"),
        ("content-length: 10", "begun"),
        ("content-length: 10\r\nexpect: 100-continue", ""),
        ("transfer-encoding: chunked", &chunks),
    ] {
        for (head, status) in refused(lines) {
            let mut connection = gateway.connect().await;
            let answer = connection.ask(head + rest).await;
            assert_eq!(answer.status, status, "{lines}");
            assert_eq!(answer.header("connection"), Some("close"), "{status} {lines}");
            assert!(matches!(connection.next().await, Next::Closed), "{status} {lines}");
        }
    }

    // What is small is passed over, even if it comes later, and whatever it looks like.
    let hidden = get("/ping");
    let length = format!("content-length: {}", hidden.len());
    let chunk = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
    for (lines, rest) in [(&*length, &hidden), ("transfer-encoding: chunked", &chunk)] {
        for (head, status) in refused(lines) {
            let (mut connection, answer) = loop {
                let mut connection = gateway.connect().await;
                let begun = Instant::now();
                connection.send(&head).await.unwrap();
                // The head has been read when somebody who came after it has been answered.
                assert_eq!(gateway.get("/").await.status, 404);
                // The rest is waited for, but not for long: a busy machine may be too slow with it.
                if begun.elapsed() > LEFT_LIMIT / 2 {
                    continue;
                }
                let answer = connection.ask(rest).await;
                if begun.elapsed() < LEFT_LIMIT || answer.header("connection").is_none() {
                    break (connection, answer);
                }
            };
            assert_eq!((answer.status, answer.header("connection")), (status, None), "{lines}");
            assert_eq!(connection.ask(get("/after")).await.status, 404, "{status} {lines}");
        }
    }
    nothing_was_sent(&scene, &gateway).await;
}

pub(crate) async fn while_not_ready() {
    let nowhere = Nowhere::reserve();
    let gateway = Scene::at(&nowhere.addr()).gateway().start().await;

    for sent in [get("/ping").into_bytes(), post("/ping", r#"{"name":"a","value":"b"}"#)] {
        let answer = gateway.ask(sent).await;
        assert_eq!(answer.error(), refusal(503, "not ready"));
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    // An error in the head comes first, admission second, and an error in the body last: it is not read before.
    assert_eq!(gateway.get("/").await.status, 404);
    assert_eq!(gateway.post("/ping", "{").await.error(), refusal(503, "not ready"));

    // The response does not wait for the body, and the client is not asked to send it.
    let head = "POST /ping HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 30\r\n\r\n";
    let answer = gateway.connect().await.ask(head).await;
    assert_eq!(answer.error(), refusal(503, "not ready"));
    assert_eq!(answer.header("connection"), Some("close"));
}

pub(crate) async fn when_full(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let gateway = scene
        .gateway()
        .set("MAX_IN_FLIGHT", "1")
        .set("REPLY_TIMEOUT", "60s")
        .ready()
        .await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());

    let mut first = gateway.connect().await;
    first.send(get("/ping")).await.unwrap();
    gateway.until_metric("gateway_in_flight", 1).await;
    for _ in 0..3 {
        let answer = gateway.get("/ping").await;
        assert_eq!(answer.error(), refusal(503, "too many requests in flight"));
        assert_eq!(answer.header("retry-after"), Some("1"));
    }

    // The first is not harmed, and its place is free after it.
    for (offset, text) in [(0, "one"), (1, "two")] {
        let request = ping.read_one(offset).await;
        pong.write(request.key.as_deref(), Some(text.as_bytes())).await;
        assert_eq!(first.answer().await.message(), text);
        gateway.until_metric("gateway_in_flight", 0).await;
        if offset == 0 {
            first.send(get("/ping")).await.unwrap();
        }
    }
    assert_eq!(ping.end().await, 2);
}

pub(crate) async fn when_there_are_too_many_connections(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (gateway, _worker) = tokio::join!(
        scene
            .gateway()
            .set("MAX_CONNECTIONS", "2")
            .set("HEADER_TIMEOUT", "1m")
            .ready(),
        scene.worker().ready()
    );

    let mut held = [gateway.connect().await, gateway.connect().await];
    for connection in &mut held {
        assert_eq!(connection.ask(get("/ping")).await.status, 200);
    }
    let mut third = gateway.connect().await;
    let answer = third.ask(get("/ping")).await;
    assert_eq!(answer.error(), refusal(503, "too many connections"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(matches!(third.next().await, Next::Closed));

    let [mut kept, left] = held;
    assert_eq!(kept.ask(get("/ping")).await.status, 200);
    drop(left);
    until("a place is free again", SOON, async || {
        let answer = gateway.get("/ping").await;
        (answer.status == 200).then_some(())
    })
    .await;
}

pub(crate) async fn of_a_slow_head(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let gateway = scene.gateway().set("HEADER_TIMEOUT", "1s").ready().await;

    for start in ["", "GET /ping HTTP/1.1\r\nhost: te"] {
        let connecting = Instant::now();
        let mut connection = gateway.connect().await;
        connection.send(start).await.unwrap();
        closed_after_a_second(connection, connecting).await;
    }
    // The same holds between two requests.
    let mut connection = gateway.connect().await;
    let asking = Instant::now();
    assert_eq!(connection.ask(get("/")).await.status, 404);
    closed_after_a_second(connection, asking).await;
    nothing_was_sent(&scene, &gateway).await;
}

pub(crate) async fn of_a_client_that_takes_no_answers(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let gateway = scene.gateway().set("HEADER_TIMEOUT", "1s").ready().await;

    let mut connection = gateway.connect().await;
    let requests = get("/").repeat(1_000);
    // At some time it can send no more: the gateway waits for it. And then the gateway does not wait any more.
    within("it is cut off", SOON, async {
        while connection.send(&requests).await.is_ok() {}
    })
    .await;
    assert_eq!(gateway.get("/").await.status, 404);
}

pub(crate) async fn for_want_of_descriptors(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (gateway, _worker) = scene.pair().await;
    let mut kept = gateway.connect().await;
    assert_eq!(kept.ask(get("/ping")).await.status, 200);
    let admin = Connection::open(gateway.admin()).await.unwrap();
    gateway.limit_descriptors(64);

    let start = Instant::now();
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(gateway.connect().await);
    }
    let complaint = "cannot accept a connection";
    gateway.logged(complaint).await;
    // Those who are connected are served meanwhile, and it does not try all the time.
    for _ in 0..20 {
        assert_eq!(kept.ask(get("/ping")).await.status, 200);
    }
    let complaints = gateway.log().iter().filter(|it| it.contains(complaint)).count();
    let pauses = start.elapsed().as_millis() / 50;
    // Both listeners complain.
    assert!(
        complaints as u128 <= 2 * (pauses + 1),
        "{complaints} in {pauses} pauses"
    );

    drop((crowd, admin));
    assert_eq!(gateway.get("/ping").await.status, 200);
}

async fn closed_after_a_second(connection: Connection, start: Instant) {
    let said = connection.closed().await;
    let waited = start.elapsed();
    assert!(
        said.is_empty() || said.starts_with(b"HTTP/1.1 408 "),
        "{}",
        said.escape_ascii()
    );
    assert!(
        (Duration::from_millis(900)..Duration::from_secs(10)).contains(&waited),
        "{waited:?}"
    );
}

pub(crate) async fn of_a_slow_body(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let gateway = scene.gateway().set("HEADER_TIMEOUT", "1s").ready().await;

    let mut connection = gateway.connect().await;
    let start = Instant::now();
    let answer = connection
        .ask("POST /ping HTTP/1.1\r\nhost: test\r\ncontent-length: 20\r\n\r\n{")
        .await;

    assert_eq!(answer.error(), refusal(408, "body not received in time"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(start.elapsed() >= Duration::from_millis(900));
    assert!(matches!(connection.next().await, Next::Closed));
    nothing_was_sent(&scene, &gateway).await;
}
