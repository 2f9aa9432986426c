use std::{net::SocketAddr, sync::atomic::AtomicUsize};

use hyper::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
};

use super::*;

/// Above every timeout of these servers.
const LIMIT: Duration = Duration::from_secs(20);

/// Short, and long enough for a busy machine to tell them apart.
const SHORT: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(3);

/// Answers `/wait` at a permit and other paths at once, and counts the requests that are not answered yet.
struct TestHandler {
    release: Semaphore,
    waiting: AtomicUsize,
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Handler for Arc<TestHandler> {
    type Head = (bool, Result<(), RequestError>);

    fn read_head(&self, head: &Parts, accepted: Result<(), RequestError>) -> Self::Head {
        (head.uri.path() == "/wait", accepted)
    }

    async fn respond(&self, (waits, accepted): Self::Head, _: &mut Incoming) -> Response {
        let mut response = Response::new(Full::from("body"));
        if accepted.is_err() {
            *response.status_mut() = StatusCode::BAD_REQUEST;
        }
        if waits {
            let _waiting = Waiting::new(&self.waiting);
            self.release.acquire().await.expect("it is never closed").forget();
        }
        response
    }
}

/// A running server, which ends with the test.
struct Running {
    addr: SocketAddr,
    handler: Arc<TestHandler>,
    _shutdown: oneshot::Sender<()>,
}

impl Running {
    fn start(header_timeout: Duration, idle_timeout: Duration) -> Self {
        let listener = bind("TEST", "127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = listener.local_addr().unwrap();
        let (shutdown, on_shutdown) = oneshot::channel::<()>();
        let server = Server::new(
            listener,
            Limits {
                max_connections: 100,
                header_timeout,
                idle_timeout,
            },
        );
        let handler = Arc::new(TestHandler {
            release: Semaphore::new(0),
            waiting: AtomicUsize::new(0),
        });
        let serving = server.serve(Arc::clone(&handler), async {
            let _ = on_shutdown.await;
        });
        tokio::spawn(serving);
        Self {
            addr,
            handler,
            _shutdown: shutdown,
        }
    }

    /// Sends bytes on a new connection.
    async fn send(&self, bytes: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream
    }

    async fn until_waiting(&self, count: usize) {
        let reached = async {
            while self.handler.waiting.load(Ordering::SeqCst) != count {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(LIMIT, reached)
            .await
            .expect("the number of requests is reached");
    }
}

/// Reads until a text has arrived.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).ends_with(text) {
        let count = timeout(LIMIT, stream.read_buf(&mut read)).await.unwrap().unwrap();
        assert!(count > 0, "closed after {}", read.escape_ascii());
    }
    String::from_utf8(read).unwrap()
}

/// Reads until the server closes. The time begins with the call.
async fn read_until_closed(stream: &mut TcpStream) -> (String, Duration) {
    let begun = Instant::now();
    let mut read = Vec::new();
    let _fin_or_reset = timeout(LIMIT, stream.read_to_end(&mut read)).await.unwrap();
    (String::from_utf8(read).unwrap(), begun.elapsed())
}

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const WAIT: &str = "GET /wait HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test]
async fn slow_head_is_closed_at_the_header_timeout() {
    let server = Running::start(SHORT, LIMIT);
    // At the first head, from the accept; later, from the first byte.
    for (begin, is_later) in [("", false), ("GET", false), ("GET", true)] {
        let mut stream = server.send(if is_later { GET } else { "" }).await;
        if is_later {
            read_until(&mut stream, "body").await;
            sleep(2 * SHORT).await;
        }
        stream.write_all(begin.as_bytes()).await.unwrap();
        let (mut reads, mut writes) = stream.split();
        let begun = Instant::now();
        let drip = async {
            // A byte now and then does not extend it.
            while writes.write_all(b"x").await.is_ok() {
                sleep(SHORT / 10).await;
            }
        };
        let mut read = [0];
        tokio::select! {
            read = reads.read(&mut read) => assert!(!matches!(read, Ok(1..))),
            () = drip, if !begin.is_empty() => {}
            () = sleep(LIMIT) => panic!("still open"),
        }
        assert!(
            (SHORT / 2..SHORT + Duration::from_secs(2)).contains(&begun.elapsed()),
            "{begin:?}: {:?}",
            begun.elapsed()
        );
    }
}

#[tokio::test]
async fn idle_connection_is_closed_at_the_idle_timeout() {
    let server = Running::start(SHORT, LONG);
    let mut stream = server.send(GET).await;
    read_until(&mut stream, "body").await;
    // Longer idle than the header timeout, and the next request is served.
    sleep(2 * SHORT).await;
    stream.write_all(GET.as_bytes()).await.unwrap();
    read_until(&mut stream, "body").await;
    let (read, waited) = read_until_closed(&mut stream).await;
    assert_eq!(read, "");
    assert!(waited > LONG / 2, "{waited:?}");
}

#[tokio::test]
async fn request_outlasts_both_timeouts() {
    let server = Running::start(SHORT, SHORT);
    let mut stream = server.send(WAIT).await;
    server.until_waiting(1).await;
    sleep(3 * SHORT).await;
    server.handler.release.add_permits(1);
    let response = read_until(&mut stream, "body").await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
}

#[tokio::test]
async fn half_closed_client_gets_its_response() {
    let server = Running::start(LIMIT, LIMIT);
    for bytes in [
        WAIT,
        // The body and the FIN arrive together.
        "POST /wait HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nxx",
    ] {
        let mut stream = server.send(bytes).await;
        stream.shutdown().await.unwrap();
        server.until_waiting(1).await;
        server.handler.release.add_permits(1);
        let (response, waited) = read_until_closed(&mut stream).await;
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        assert!(response.contains("connection: close\r\n"), "{response}");
        assert!(waited < connection::HALF_CLOSE_GRACE / 2, "{waited:?}");
    }
}

#[tokio::test]
async fn fin_ends_a_request_after_the_grace() {
    let server = Running::start(LIMIT, LIMIT);
    let begun = Instant::now();
    drop(server.send(WAIT).await);
    server.until_waiting(1).await;
    server.until_waiting(0).await;
    let waited = begun.elapsed();
    let grace = connection::HALF_CLOSE_GRACE;
    assert!(
        (grace / 2..grace + Duration::from_secs(2)).contains(&waited),
        "{waited:?}"
    );
}

#[tokio::test]
async fn reset_ends_a_request_at_once() {
    let server = Running::start(LIMIT, LIMIT);
    let stream = server.send(WAIT).await;
    server.until_waiting(1).await;
    let begun = Instant::now();
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    server.until_waiting(0).await;
    assert!(
        begun.elapsed() < connection::HALF_CLOSE_GRACE / 2,
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn refused_head_closes_the_connection() {
    let server = Running::start(LIMIT, LIMIT);
    let mut stream = server.send(&format!("GET / HTTP/1.1\r\n\r\n{GET}")).await;
    let (response, _) = read_until_closed(&mut stream).await;
    assert!(response.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{response}");
    assert!(response.contains("connection: close\r\n"), "{response}");
    assert!(response.ends_with("\r\n\r\nbody"), "{response}");
}

/// A client that is still sending when the response arrives sees no reset: a proxy would report it instead of the response.
#[tokio::test]
async fn close_is_no_reset_while_the_client_sends() {
    let server = Running::start(LIMIT, LIMIT);
    let part = [b'x'; 16 * 1024];
    for head in [
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1048576\r\n\r\n",
        // hyper refuses the head.
        "POST / HTTP/1.1\r\nno colon\r\n\r\n",
    ] {
        let sent = loop {
            let begun = Instant::now();
            let mut stream = server.send(head).await;
            let mut response = Vec::new();
            timeout(LIMIT, stream.read_to_end(&mut response))
                .await
                .unwrap()
                .unwrap();
            assert!(String::from_utf8(response).unwrap().contains("connection: close\r\n"));
            let sent = async {
                for _ in 0..8 {
                    stream.write_all(&part).await?;
                }
                Ok::<_, io::Error>(())
            };
            let sent = sent.await;
            // Repeated when this machine was too slow for the limit.
            if begun.elapsed() < connection::LINGER {
                break sent;
            }
        };
        sent.unwrap_or_else(|error| panic!("{head:?}: {error}"));
    }
}
