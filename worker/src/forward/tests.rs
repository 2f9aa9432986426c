use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use shared::readiness::Readiness;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::failure::Kind;

const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// An HTTP server that answers each request with these bytes, then closes the connection. It keeps the last request.
struct Server {
    addr: SocketAddr,
    requests: Arc<AtomicUsize>,
    last: Arc<parking_lot::Mutex<String>>,
}

impl Server {
    async fn answering(response: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            addr: listener.local_addr().unwrap(),
            requests: Arc::default(),
            last: Arc::default(),
        };
        let (requests, last) = (Arc::clone(&server.requests), Arc::clone(&server.last));
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut bytes = vec![0; 64 * 1024];
                // A probe closes the connection.
                let Ok(read @ 1..) = stream.read(&mut bytes).await else {
                    continue;
                };
                *last.lock() = String::from_utf8_lossy(&bytes[..read]).into_owned();
                requests.fetch_add(1, Ordering::Relaxed);
                stream.write_all(response.as_bytes()).await.unwrap();
            }
        });
        server
    }

    fn forward(&self) -> Forward {
        forward(self.addr)
    }
}

fn forward(addr: SocketAddr) -> Forward {
    Forward::new(format!("http://{addr}").parse().unwrap(), vec!["location".to_owned()])
}

async fn send(forward: &Forward, request: Request) -> Result<Reply, Failure> {
    timeout(TEST_TIMEOUT, forward.clone().send(request)).await.unwrap()
}

#[tokio::test]
async fn response_is_the_reply() {
    let server = Server::answering(
        "HTTP/1.1 201 Created\r\ncontent-type: text/plain\r\nlocation: /7\r\nx-secret: 1\r\ncontent-length: 2\r\n\r\nok",
    )
    .await;
    let deadline = Instant::now() + Duration::from_secs(5);
    let request = Request::builder("PUT", "/orders/1?dry=1")
        .header("host", "evil")
        .header("x-customer", "7")
        .header("kafka_correlationId", "id")
        .deadline(deadline)
        .body("text");
    let reply = send(&server.forward(), request).await.unwrap();
    assert_eq!((reply.status_code(), reply.body()), (Status::CREATED, &b"ok"[..]));
    assert_eq!(reply.header_value("content-type"), Some(&b"text/plain"[..]));
    assert_eq!(reply.header_value("location"), Some(&b"/7"[..]));
    assert_eq!(reply.header_value("x-secret"), None);

    let request = server.last.lock().clone();
    assert!(request.starts_with("PUT /orders/1?dry=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("host: {}\r\n", server.addr)), "{request}");
    assert!(
        request.contains("x-customer: 7\r\n") && !request.contains("kafka"),
        "{request}"
    );
    let left = request
        .split("x-request-deadline-ms: ")
        .nth(1)
        .and_then(|rest| rest.split('\r').next());
    assert!((1..=5_000).contains(&left.unwrap().parse().unwrap()), "{request}");
    assert!(request.ends_with("\r\n\r\ntext"), "{request}");
}

#[tokio::test]
async fn connection_that_breaks_after_the_request_is_a_502_and_is_not_repeated() {
    for response in ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"] {
        let server = Server::answering(response).await;
        let failure = send(&server.forward(), Request::post("/").empty()).await.unwrap_err();
        assert_eq!(
            (failure.kind(), failure.status()),
            (Kind::Failed, Status::BAD_GATEWAY),
            "{response:?}"
        );
        assert_eq!(server.requests.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn failed_attempts_are_those_that_are_worth_another_one() {
    for (response, fails) in [
        ("HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n", true),
        ("HTTP/1.1 429 x\r\ncontent-length: 0\r\n\r\n", true),
        ("HTTP/1.1 408 x\r\ncontent-length: 0\r\n\r\n", true),
        ("HTTP/1.1 404 x\r\ncontent-length: 0\r\n\r\n", false),
        ("HTTP/1.1 302 x\r\ncontent-length: 0\r\n\r\n", false),
    ] {
        let server = Server::answering(response).await;
        let event = send(&server.forward(), Request::post("/").without_reply().empty()).await;
        assert_eq!(event.is_err(), fails, "{response}");
        let call = send(&server.forward(), Request::post("/").empty()).await;
        assert!(call.is_ok(), "{response}: a caller is told");
    }
}

#[tokio::test]
async fn refused_connection_is_no_attempt_and_closes_the_gate() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let forward = forward(addr);
    forward.gate().set_open(true);
    let failure = send(&forward, Request::post("/").empty()).await.unwrap_err();
    assert_eq!(failure.kind(), Kind::NotExecuted);
    timeout(TEST_TIMEOUT, forward.gate().closed()).await.unwrap();

    let readiness = Readiness::default();
    let watch = tokio::spawn(forward.clone().watch(readiness.health_check("forward_to")));
    let named = async {
        while !readiness.not_ready().iter().any(|(_, cause)| cause.contains("refused")) {
            tokio::task::yield_now().await;
        }
    };
    timeout(TEST_TIMEOUT, named).await.unwrap();
    let _listener = TcpListener::bind(addr).await.unwrap();
    timeout(TEST_TIMEOUT, forward.gate().opened()).await.unwrap();
    assert!(readiness.not_ready().is_empty());
    watch.abort();
}

#[test]
fn only_a_plain_http_server_is_allowed() {
    for allowed in [
        "http://127.0.0.1:3000",
        "http://localhost:80/",
        "http://[::1]:3000",
        "http://app",
    ] {
        assert!(allowed.parse::<ForwardTo>().is_ok(), "{allowed}");
    }
    for refused in [
        "",
        "127.0.0.1:3000",
        "https://a",
        "http://a/path",
        "http://a?x",
        "http://u:p@a",
        "ftp://a",
    ] {
        assert!(refused.parse::<ForwardTo>().is_err(), "{refused}");
    }
    let to: ForwardTo = "http://app".parse().unwrap();
    assert_eq!(to.host_and_port(), "app:80");
}
