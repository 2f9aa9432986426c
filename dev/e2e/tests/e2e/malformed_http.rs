//! Requests that HTTP forbids: each has a status or a close, and nothing is produced.

use e2e::{
    engine::Engine,
    fixture::Fixture,
    http::{Connection, Next},
};

use crate::http_errors::{assert_nothing_sent, error};

pub(crate) async fn malformed_http_returns_400(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let gateway = fixture.gateway().ready().await;

    let many_headers: String = (0..101).map(|n| format!("h{n}: v\r\n")).collect();
    let long_header = format!("h: {}\r\n", "v".repeat(500 * 1024));
    let long_uri = "u".repeat(70_000);
    let get = |lines: &str| format!("GET /ping HTTP/1.1\r\nhost: test\r\n{lines}\r\n");
    let post = |headers: &str, rest: &str| format!("POST /ping HTTP/1.1\r\nhost: test\r\n{headers}\r\n\r\n{rest}");
    let chunked = |rest: &str| post("transfer-encoding: chunked", rest);
    // Request smuggling: one request by the length, two by the chunks.
    let hidden = "0\r\n\r\nGET /ping HTTP/1.1\r\nhost: test\r\n\r\n";
    let mut cases = vec![
        ("nonsense\r\n\r\n".to_owned(), &[400][..]),
        ("GET /ping HTTP/9.9\r\n\r\n".to_owned(), &[400, 505]),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), &[400, 505]),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}".to_owned(), &[400]),
        (get(&many_headers), &[431]),
        (get(&long_header), &[431]),
        (format!("GET /{long_uri} HTTP/1.1\r\nhost: test\r\n\r\n"), &[414, 431]),
        ("GET /ping HTTP/1.1\rhost: test\r\r".to_owned(), &[400]),
        (post("content-length: 18446744073709551615", ""), &[400, 413, 431]),
    ];
    let bad = |sent: String| (sent, &[400][..]);
    cases.extend(
        ["no colon", "space : v", " h: v", "h: a\r\n b", "h: a\0b", "h: a\rb"]
            .map(|line| bad(get(&format!("{line}\r\n")))),
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
            &format!("0\r\nt: {}\r\n\r\n", "v".repeat(20_000)),
            &format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(20_000)),
        ]
        .map(|chunks| bad(chunked(chunks))),
    );
    cases.push(bad(format!(
        "POST /ping HTTP/1.0\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n{hidden}"
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

/// On both listeners. hyper leaves these to the application.
pub(crate) async fn host_missing_repeated_or_invalid_returns_400(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let gateway = fixture.gateway().ready().await;

    for (addr, path) in [(gateway.http(), "/ping"), (gateway.admin(), "/live")] {
        for lines in [
            "",
            "host: a\r\nhost: a\r\n",
            "host: a\r\nhost: b\r\n",
            "host: a b\r\n",
            "host: a, b\r\n",
            "host: http://a\r\n",
            "host: a:port\r\n",
        ] {
            for target in [path.to_owned(), format!("http://any{path}")] {
                let mut connection = Connection::open(addr).await.unwrap();
                let response = connection
                    .exchange(format!("GET {target} HTTP/1.1\r\n{lines}\r\n"))
                    .await;
                assert_eq!(response.status, 400, "{target} {lines:?}");
                assert!(response.text().contains("host must be present once"), "{response:?}");
                assert_eq!(response.header("connection"), Some("close"), "{target} {lines:?}");
                assert!(matches!(connection.next().await, Next::Closed));
            }
        }
    }
    let series = "gateway_requests_total{outcome=\"invalid_host\",status=\"400\",route=\"\"}";
    assert_eq!(gateway.metric(series).await, 14);
    assert_nothing_sent(&fixture, &gateway).await;
}

pub(crate) async fn other_forms_of_target_return_400_and_transfer_codings_501(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let gateway = fixture.gateway().ready().await;

    let target = || error(400, "the request target must be a path");
    let coding = || error(501, "transfer-encoding must be chunked");
    let chunk = "transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n";
    let two_lines = "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let twice = "transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n";
    for (line, rest, expected) in [
        ("CONNECT test:80", "\r\nbytes of the tunnel", target()),
        ("GET test:80", "\r\n", target()),
        ("GET *", "\r\n", target()),
        ("GET ftp://test/ping", "\r\n", target()),
        ("GET http://user:password@test/ping", "\r\n", target()),
        // A request about the server as a whole: it has no options.
        ("OPTIONS *", "connection: close\r\n\r\n", error(404, "not found")),
        ("POST /ping", chunk, coding()),
        ("POST /ping", two_lines, coding()),
        ("POST /ping", twice, coding()),
    ] {
        let mut connection = gateway.connect().await;
        let response = connection
            .exchange(format!("{line} HTTP/1.1\r\nhost: test\r\n{rest}"))
            .await;
        assert_eq!(response.error(), expected, "{line} {rest:?}");
        assert_eq!(response.header("connection"), Some("close"), "{line} {rest:?}");
        assert!(matches!(connection.next().await, Next::Closed), "{line} {rest:?}");
    }
    assert_nothing_sent(&fixture, &gateway).await;
}
