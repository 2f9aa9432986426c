//! An HTTP/1.1 server: it accepts up to a bound, serves and drains. [`Handler`] says what it answers.
//!
//! - The handler also answers a connection beyond the bound (it sees [`RequestError::TooManyConnections`]); then the server
//!   closes it. At most 64 such connections are open. Further ones wait in the kernel's backlog.
//! - An error of `accept` never ends the server. Without descriptors or memory it pauses instead of spinning.
//! - The server reads what a handler leaves of a request body if it is short and arrives soon. Otherwise the response has
//!   `connection: close`, and the server reads on for a moment before it closes.
//! - The kernel resets the connection of a client that does not read its responses (`TCP_USER_TIMEOUT`).
//! - Heads and idle connections have timeouts. A client that has finished sending gets its response (`connection.rs`).
//! - A head that RFC 9112 forbids and hyper accepts is refused (`head.rs`). The handler makes the response.
//! - A drain accepts no new connection. A request on an open connection is served, and its response closes the connection.

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request,
    body::{Body, Incoming},
    header::{CONNECTION, EXPECT, HeaderValue},
    http::request::Parts,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::unconstrained,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, warn};

use self::{
    connection::{Connection, Timeouts},
    stream::TimedStream,
};
pub use self::{
    head::RequestError,
    listener::{BindError, bind},
};

mod connection;
mod head;
mod listener;
mod stream;

/// A response whose body is in memory.
pub type Response = hyper::Response<Full<Bytes>>;

/// Connections beyond the bound that get a response before they are closed.
const MAX_EXCESS_CONNECTIONS: usize = 64;

/// The most that hyper buffers of a head, or of a body at a time, in bytes. A larger response closes its connection.
const MAX_BUFFER_BYTES: usize = 16 * 1024;

/// The pause after an `accept` that failed for lack of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a drain keeps idle connections open. A request that is already on the network is then served, not reset.
const KEEP_ALIVE_GRACE: Duration = Duration::from_millis(250);

/// A runtime that is behind has requests to read that arrived before the drain. They are all read once none begins for so long.
const QUIET: Duration = Duration::from_millis(10);

/// The most that is read of the unread rest of a body, in bytes.
const MAX_UNREAD_BYTES: usize = 16 * 1024;

/// Bound on reading the unread rest of a body.
const UNREAD_TIMEOUT: Duration = Duration::from_millis(250);

/// Whether a connection is within the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    /// Within the bound.
    Admitted,
    /// Beyond the bound: the connection gets one response.
    Excess,
}

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// The parsed request head.
    type Head: Send;

    /// Parses a request head. What is kept must be a copy: hyper allocates another read buffer while a part of the head
    /// lives. So the head is dropped before the future of [`respond`](Self::respond) is polled.
    ///
    /// With a [`RequestError`] the response must be an error; the server closes the connection after it.
    fn read_head(&self, head: &Parts, accepted: Result<(), RequestError>) -> Self::Head;

    /// Answers one request. It may leave the body unread.
    fn respond(&self, head: Self::Head, body: &mut Incoming) -> impl Future<Output = Response> + Send;
}

/// Bounds of a server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections that are served at the same time.
    pub max_connections: usize,
    /// Bound on two times: to receive a request head, and for a client to acknowledge no byte of its responses.
    pub header_timeout: Duration,
    /// How long a connection may be idle after a response.
    pub idle_timeout: Duration,
}

/// A server that listens and does not accept yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    limits: Limits,
}

/// The connections that are open when the server has stopped accepting.
#[must_use]
#[derive(Debug)]
pub struct Draining {
    connections: GracefulShutdown,
    begun: Arc<AtomicUsize>,
}

struct Acceptor<H> {
    admitted: Arc<Semaphore>,
    excess: Arc<Semaphore>,
    connections: GracefulShutdown,
    http: http1::Builder,
    timeouts: Timeouts,
    context: Arc<Context<H>>,
}

/// Shared by all connections.
struct Context<H> {
    handler: H,
    /// From now on every response closes its connection.
    is_closing: AtomicBool,
    /// The number of requests whose head was read.
    begun: Arc<AtomicUsize>,
}

// === impl Server ===

impl Server {
    /// A server on `listener`.
    #[must_use]
    pub fn new(listener: TcpListener, limits: Limits) -> Self {
        Self { listener, limits }
    }

    /// Accepts connections until `shutdown` resolves, and returns the open ones.
    pub async fn serve<H: Handler>(self, handler: H, shutdown: impl Future<Output = ()>) -> Draining {
        let Self { listener, limits } = self;
        let acceptor = Acceptor {
            admitted: Arc::new(Semaphore::new(limits.max_connections)),
            excess: Arc::new(Semaphore::new(MAX_EXCESS_CONNECTIONS)),
            connections: GracefulShutdown::new(),
            http: http(),
            timeouts: Timeouts {
                header: limits.header_timeout,
                idle: limits.idle_timeout,
            },
            context: Arc::new(Context {
                handler,
                is_closing: AtomicBool::new(false),
                begun: Arc::default(),
            }),
        };
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut shutdown => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    if !is_connection_error(&error) {
                        sleep(ACCEPT_PAUSE).await;
                    }
                    continue;
                }
            };
            tokio::select! {
                // Biased: an accepted connection with a permit is served even when the shutdown comes at the same time.
                biased;
                (peer, permit) = acceptor.permit() => acceptor.spawn(stream, peer, permit),
                () = &mut shutdown => break,
            }
        }
        // Connections in the backlog are established and may have sent a request: they get a response instead of a reset.
        // Unconstrained, because the task's budget in tokio ends after some dozens of them.
        let backlog = async {
            while let Some(Ok((stream, _))) = listener.accept().now_or_never() {
                let Some((peer, permit)) = acceptor.permit().now_or_never() else {
                    break;
                };
                acceptor.spawn(stream, peer, permit);
            }
        };
        unconstrained(backlog).await;
        acceptor.context.is_closing.store(true, Ordering::Release);
        Draining {
            begun: Arc::clone(&acceptor.context.begun),
            connections: acceptor.connections,
        }
    }
}

// === impl Acceptor ===

impl<H: Handler> Acceptor<H> {
    /// Waits for a permit for one connection.
    async fn permit(&self) -> (Peer, OwnedSemaphorePermit) {
        tokio::select! {
            // Biased: a connection is excess only when no admitted permit is free.
            biased;
            Ok(permit) = Arc::clone(&self.admitted).acquire_owned() => (Peer::Admitted, permit),
            Ok(permit) = Arc::clone(&self.excess).acquire_owned() => (Peer::Excess, permit),
            // The semaphores are never closed.
            else => std::future::pending().await,
        }
    }

    fn spawn(&self, stream: TcpStream, peer: Peer, permit: OwnedSemaphorePermit) {
        // An error of either socket option means that the client is gone.
        let _ = stream.set_nodelay(true);
        // Covers a client that vanished and one whose receive window stays closed. A response that fits into the client's
        // receive buffer is acknowledged; then the bound on idle connections applies.
        let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(self.timeouts.header));
        let connection = Arc::new(Mutex::new(Connection::accepted(self.timeouts, Instant::now())));
        let stream = TimedStream::new(stream, Arc::clone(&connection));
        let context = Arc::clone(&self.context);
        let service = service_fn(move |request: Request<Incoming>| {
            connection.lock().begin_request();
            context.begun.fetch_add(1, Ordering::Relaxed);
            let (context, connection) = (Arc::clone(&context), Arc::clone(&connection));
            let (parts, mut body) = request.into_parts();
            let expects_continue = parts.headers.contains_key(EXPECT);
            let accepted = match peer {
                Peer::Admitted => head::check(&parts),
                Peer::Excess => Err(RequestError::TooManyConnections),
            };
            let head = context.handler.read_head(&parts, accepted);
            async move {
                let mut response = context.handler.respond(head, &mut body).await;
                let closes = accepted.is_err()
                    || response.headers().contains_key(CONNECTION)
                    || is_large(&response)
                    || context.is_closing.load(Ordering::Acquire);
                let is_read = body.is_end_stream() || !closes && read_rest(body, expects_continue).await;
                let mut connection = connection.lock();
                connection.begin_response(!is_read);
                let closes = closes || !is_read || connection.is_half_closed();
                if closes {
                    response
                        .headers_mut()
                        .insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            }
        });
        let serving = self.http.serve_connection(TokioIo::new(stream), service);
        let serving = self.connections.watch(serving);
        // `map` instead of an async block, whose future would hold the connection twice.
        tokio::spawn(serving.map(move |ended| {
            if let Err(error) = ended {
                debug!(%error, "connection ended");
            }
            drop(permit);
        }));
    }
}

// === impl Draining ===

impl Draining {
    /// Waits until every connection is closed: busy ones after their response, idle ones after `KEEP_ALIVE_GRACE`.
    /// Connections that are open after `limit` are left to the end of the process.
    pub async fn finish(self, limit: Duration) {
        let drain = async {
            if self.connections.count() > 0 {
                sleep(KEEP_ALIVE_GRACE.min(limit / 4)).await;
                // At the bound the connections that are left are closed, read or not.
                let _ = timeout(limit / 4, self.until_quiet()).await;
            }
            self.connections.shutdown().await;
        };
        if timeout(limit, drain).await.is_err() {
            warn!("connections were still open at the end of the drain");
        }
    }

    /// Waits until no request begins for a while: a slow or suspended process still has to read what arrived meanwhile.
    async fn until_quiet(&self) {
        let mut before = None;
        loop {
            let begun = Some(self.begun.load(Ordering::Relaxed));
            if before == begun {
                return;
            }
            before = begun;
            sleep(QUIET).await;
        }
    }
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    // Bodies are short: copying one behind its head costs less than a vectored write. The timeouts are in `TimedStream`.
    http.writev(false)
        .header_read_timeout(None)
        .max_buf_size(MAX_BUFFER_BYTES);
    http
}

/// Whether the size of a response closes its connection. hyper copies the body behind its head and keeps that buffer until the
/// connection ends: 10,000 connections after large responses would hold hundreds of megabytes.
fn is_large(response: &Response) -> bool {
    response.body().size_hint().lower() > MAX_BUFFER_BYTES as u64
}

/// Reads the rest of a request body if it is short and arrives soon. `false` means that the next request cannot be found.
/// A client that expects `100 Continue` has not sent its body, and reading would ask for it.
async fn read_rest(body: Incoming, expects_continue: bool) -> bool {
    if expects_continue || body.size_hint().lower() > MAX_UNREAD_BYTES as u64 {
        return false;
    }
    let rest = Limited::new(body, MAX_UNREAD_BYTES).collect();
    matches!(timeout(UNREAD_TIMEOUT, rest).await, Ok(Ok(_)))
}

/// Whether an error of `accept` concerns one connection only (accept(2)): the next `accept` may succeed.
fn is_connection_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests;
