//! What HTTP/1.1 allows a client to send.

use e2e::{
    engine::Engine,
    fixture::Fixture,
    http::{Connection, Next, get, post},
};

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
        // Bare LF at the end of a line is allowed (RFC 9112, 2.2); so is an empty line before the request.
        (
            "\r\nGET /ping",
            "host: test\nx-a: b".to_owned(),
            String::new(),
            "Ping Pong ( ",
        ),
        // The server offers no other protocol: it ignores the wish (RFC 9110, 7.8).
        (
            "GET /ping",
            "host: test\r\nconnection: upgrade\r\nupgrade: h2c".to_owned(),
            String::new(),
            "Ping Pong ( ",
        ),
        // An expectation other than 100-continue is ignored (RFC 9110, 10.1.1).
        (
            "POST /ping",
            format!("host: [::1]:80\r\nexpect: something\r\ncontent-length: {length}"),
            BODY.to_owned(),
            "a b ( ",
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

pub(crate) async fn responses_have_a_date_and_head_has_no_body(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let gateway = fixture.gateway().ready().await;

    let mut gateway_connection = gateway.connect().await;
    let response = gateway_connection.exchange(get("/")).await;
    let date = response.header("date").unwrap();
    chrono::DateTime::parse_from_rfc2822(date).unwrap();

    // The next response follows the head at once.
    let mut admin = Connection::open(gateway.admin()).await.unwrap();
    let response = admin.exchange("HEAD /live HTTP/1.1\r\nhost: test\r\n\r\n").await;
    assert_eq!((response.status, response.header("content-length")), (200, Some("5")));
    assert_eq!(admin.exchange(get("/live")).await.text(), "live\n");
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
