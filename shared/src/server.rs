//! An HTTP/1.1 server: accepts up to a bound, serves, drains.
//!
//! - A connection beyond the bound is answered by the service in its own words (it sees [`Peer::Excess`]) and
//!   closed; beyond a small reserve of those, the kernel's backlog waits.
//! - An error of `accept` never ends the server. Without descriptors it pauses instead of spinning.
//! - What of a request's body its handler has left is read if it is small and there; else the connection closes, and
//!   the answer says so.
//! - A client that takes nothing of its answers is cut off by the kernel.
//! - Draining: no new connections; a request on an open one is still served, and told that it was the last.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response,
    body::{Body, Incoming},
    header::{CONNECTION, EXPECT, HeaderValue},
    http::request::Parts,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::unconstrained,
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

/// An answer: all of ours fit in memory.
pub type Answer = Response<Full<Bytes>>;

/// Connections beyond the bound that are told so before they are closed.
const EXCESS: usize = 64;

/// The most that hyper buffers of a head, and of a body at a time, in bytes; and the largest answer after which a connection
/// goes on.
const MAX_BUFFER_BYTES: usize = 16 * 1024;

/// Connections that the kernel may take for us ahead: as many as it will (`net.core.somaxconn`). Those that come beyond are
/// reset after a fifth of a second, with SYN cookies in use.
const BACKLOG: u32 = i32::MAX.cast_unsigned();

/// The pause after an `accept` that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long idle connections stay open in a drain, so that a request already under way to us is served instead
/// of being cut off.
const KEEP_ALIVE_GRACE: Duration = Duration::from_millis(250);

/// As long as it takes the runtime to look at all connections.
const TICK: Duration = Duration::from_millis(1);

/// The most that is read of a body that nobody wants, to keep the connection: its head came in the same packets.
const LEFT_BYTES: usize = 16 * 1024;

/// How long the rest of such a body may take.
const LEFT_LIMIT: Duration = Duration::from_millis(250);

/// Whether a connection is within the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// It is.
    Admitted,
    /// It is not: it gets one answer.
    Excess,
}

/// What answers requests.
pub trait Handler: Send + Sync + 'static {
    /// What a request's head asks for.
    type Asked: Send;

    /// Reads a request's head, which is dropped before any future is polled: hyper reads on before that, and takes
    /// another buffer while anything of the head lives. So what is kept of it is a copy.
    fn read(&self, head: &Parts, peer: Peer) -> Self::Asked;

    /// Answers one request. What it leaves of the body is seen to.
    fn answer(&self, asked: Self::Asked, body: &mut Incoming) -> impl Future<Output = Answer> + Send;
}

/// Bounds of a server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections served at the same time.
    pub max_connections: usize,
    /// How long a client may take to send a request's head, and to take anything of what it is sent; and how long a
    /// connection may be idle.
    pub header_timeout: Duration,
}

/// A server in the making: it has its port.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    limits: Limits,
}

/// Connections that are still open after the last new one was accepted.
#[must_use]
#[derive(Debug)]
pub struct Draining {
    connections: GracefulShutdown,
}

/// A port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{variable}: cannot listen on {addr}; set it to another address")]
pub struct BindError {
    variable: &'static str,
    addr: SocketAddr,
    source: io::Error,
}

impl BindError {
    /// The address that `variable` configures cannot be had.
    #[must_use]
    pub fn new(variable: &'static str, addr: SocketAddr, source: io::Error) -> Self {
        Self { variable, addr, source }
    }
}

/// Listens on the address that `variable` configures.
///
/// # Errors
/// When the port is in use, or not ours to have.
pub fn bind(variable: &'static str, addr: SocketAddr) -> Result<TcpListener, BindError> {
    let failed = |source| BindError::new(variable, addr, source);
    let listener = listen(addr).map_err(failed)?;
    // What was bound, not what was asked for: port 0 means any.
    let addr = listener.local_addr().map_err(failed)?;
    info!(variable, %addr, "listening");
    Ok(listener)
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // After a restart connections of the process before may still linger.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

// === impl Server ===

impl Server {
    /// A server on `listener`.
    #[must_use]
    pub fn new(listener: TcpListener, limits: Limits) -> Self {
        Self { listener, limits }
    }

    /// Accepts connections until `shutdown` resolves, and gives back those that are open.
    pub async fn serve<H: Handler>(self, handler: H, shutdown: impl Future<Output = ()>) -> Draining {
        let Self { listener, limits } = self;
        let accepting = Accepting {
            admitted: Arc::new(Semaphore::new(limits.max_connections)),
            excess: Arc::new(Semaphore::new(EXCESS)),
            connections: GracefulShutdown::new(),
            http: http(limits.header_timeout),
            write_timeout: limits.header_timeout,
            context: Arc::new(Context {
                handler,
                closing: AtomicBool::new(false),
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
                    if !is_about_the_connection(&error) {
                        sleep(ACCEPT_PAUSE).await;
                    }
                    continue;
                }
            };
            tokio::select! {
                // In this order: who was taken, and has a place, is served.
                biased;
                (peer, permit) = accepting.permit() => accepting.spawn(stream, peer, permit),
                () = &mut shutdown => break,
            }
        }
        // Whoever is in the backlog has connected, and may have asked: they are answered, not reset.
        // All of them in one turn: the runtime's budget for one is spent after some dozens.
        let last = async {
            while let Some(Ok((stream, _))) = listener.accept().now_or_never() {
                let Some((peer, permit)) = accepting.permit().now_or_never() else {
                    break;
                };
                accepting.spawn(stream, peer, permit);
            }
        };
        unconstrained(last).await;
        accepting.context.closing.store(true, Ordering::Release);
        Draining {
            connections: accepting.connections,
        }
    }
}

struct Accepting<H> {
    admitted: Arc<Semaphore>,
    excess: Arc<Semaphore>,
    connections: GracefulShutdown,
    http: http1::Builder,
    /// How long a client may leave what it is sent.
    write_timeout: Duration,
    context: Arc<Context<H>>,
}

/// What all connections have in common.
struct Context<H> {
    handler: H,
    /// Every answer from now on is the last of its connection.
    closing: AtomicBool,
}

// === impl Accepting ===

impl<H: Handler> Accepting<H> {
    /// A place for a connection.
    async fn permit(&self) -> (Peer, OwnedSemaphorePermit) {
        tokio::select! {
            // In this order: excess is what does not fit.
            biased;
            Ok(permit) = Arc::clone(&self.admitted).acquire_owned() => (Peer::Admitted, permit),
            Ok(permit) = Arc::clone(&self.excess).acquire_owned() => (Peer::Excess, permit),
            // The semaphores are never closed.
            else => std::future::pending().await,
        }
    }

    fn spawn(&self, stream: TcpStream, peer: Peer, permit: OwnedSemaphorePermit) {
        // Answers are small and complete: there is nothing to wait for. An error means the peer is gone already.
        let _ = stream.set_nodelay(true);
        // It covers a client that is gone without a word, and one whose window stays shut. (No answer is awaited that fits
        // into the client's own buffers, and there the idle connection has its bound.)
        let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(self.write_timeout));
        let context = Arc::clone(&self.context);
        let service = service_fn(move |request: Request<Incoming>| {
            let context = Arc::clone(&context);
            let (head, mut body) = request.into_parts();
            let asks_first = head.headers.contains_key(EXPECT);
            let asked = context.handler.read(&head, peer);
            async move {
                let mut answer = context.handler.answer(asked, &mut body).await;
                let closes = answer.headers().contains_key(CONNECTION)
                    || peer == Peer::Excess
                    || is_large(&answer)
                    || context.closing.load(Ordering::Acquire)
                    || !is_read(body, asks_first).await;
                if closes {
                    answer
                        .headers_mut()
                        .insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        let connection = self.connections.watch(connection);
        // Not an async block: that would have room for the connection twice, before it is awaited and meanwhile.
        tokio::spawn(connection.map(move |ended| {
            if let Err(error) = ended {
                debug!(%error, "connection ended");
            }
            drop(permit);
        }));
    }
}

// === impl Draining ===

impl Draining {
    /// Waits until every connection is closed: those in flight after their answer, idle ones after a last call.
    /// What is open at the end of `limit` is left to the end of the process.
    pub async fn finish(self, limit: Duration) {
        let drain = async {
            if self.connections.count() > 0 {
                sleep(KEEP_ALIVE_GRACE.min(limit / 4)).await;
                // After a pause of the machine that is over before anything is read that came meanwhile.
                sleep(TICK).await;
            }
            self.connections.shutdown().await;
        };
        if timeout(limit, drain).await.is_err() {
            warn!("connections were still open at the end of the drain");
        }
    }
}

fn http(header_timeout: Duration) -> http1::Builder {
    let mut http = http1::Builder::new();
    // Answers are small: to copy one behind its head costs less than to write two pieces. And without the timer the timeout
    // does nothing.
    http.writev(false)
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(MAX_BUFFER_BYTES);
    http
}

/// Whether an answer is the last of its connection for its size: hyper copies it behind its head, and keeps as much room as long
/// as the connection lives. Ten thousand callers who once had a large answer would be hundreds of megabytes.
fn is_large(answer: &Answer) -> bool {
    answer.body().size_hint().lower() > MAX_BUFFER_BYTES as u64
}

/// Whether the next request of the connection can be found: what is left of the body of this one is read, if it is small
/// and comes. Whoever asks before it sends a body has not sent it, and reading would ask for it.
async fn is_read(body: Incoming, asks_first: bool) -> bool {
    if body.is_end_stream() {
        return true;
    }
    if asks_first || body.size_hint().lower() > LEFT_BYTES as u64 {
        return false;
    }
    let rest = Limited::new(body, LEFT_BYTES).collect();
    matches!(timeout(LEFT_LIMIT, rest).await, Ok(Ok(_)))
}

/// Whether an error of `accept` is the fault of the one connection (accept(2)): the next may do.
fn is_about_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
