//! The admin listener: `/live`, `/ready` and `/metrics`, and the client of `/ready` for health checks.

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

use crate::{
    readiness::Readiness,
    server::{Answer, Handler, Limits, Peer, Server},
};

/// Probes and scrapers are few.
const LIMITS: Limits = Limits {
    max_connections: 64,
    header_timeout: Duration::from_secs(10),
};

/// Bound on the whole health check: less than the time that container runtimes give it by default.
const CHECK_LIMIT: Duration = Duration::from_secs(2);

/// The content type that Prometheus asks for.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A running admin listener. It outlives everything else in the process, so that a drain can be watched.
#[derive(Debug)]
pub struct Admin {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// What the admin listener shows.
#[derive(Debug, Clone)]
struct View {
    readiness: Readiness,
    registry: Arc<Registry>,
}

// === impl Admin ===

impl Admin {
    /// Serves on `listener`.
    #[must_use]
    pub fn spawn(listener: TcpListener, readiness: Readiness, registry: Registry) -> Self {
        let view = View {
            readiness,
            registry: Arc::new(registry),
        };
        let (end, ended) = oneshot::channel();
        let task = tokio::spawn(async move {
            let ended = async {
                // Dropped is as good as sent.
                let _ = ended.await;
            };
            let open = Server::new(listener, LIMITS).serve(view, ended).await;
            open.finish(Duration::ZERO).await;
        });
        Self { end, task }
    }

    /// Closes it; a probe in flight is not waited for.
    pub async fn stop(self) {
        drop(self.end);
        // It ends at once, and has no result.
        let _ = self.task.await;
    }
}

// === impl View ===

impl View {
    fn ready(&self) -> Answer {
        let unmet = self.readiness.unmet();
        let status = if unmet.is_empty() {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let causes: serde_json::Map<_, _> = unmet
            .into_iter()
            .map(|(name, cause)| (name.to_owned(), cause.into()))
            .collect();
        let body = serde_json::json!({ "ready": causes.is_empty(), "causes": causes });
        plain(status, "application/json", body.to_string())
    }

    fn metrics(&self) -> Answer {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => plain(StatusCode::OK, OPENMETRICS, text),
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string()),
        }
    }
}

impl Handler for View {
    async fn answer(&self, request: Request<Incoming>, _: Peer) -> Answer {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET or HEAD\n");
            let headers: &mut HeaderMap = answer.headers_mut();
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match request.uri().path() {
            "/live" => plain(StatusCode::OK, "text/plain", "live\n"),
            "/ready" => self.ready(),
            "/metrics" => self.metrics(),
            _ => plain(StatusCode::NOT_FOUND, "text/plain", "/live, /ready or /metrics\n"),
        }
    }
}

fn plain(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// Asks the `/ready` of the process on this host that has `admin_addr`: exit code 0 when it is ready, else 1 with
/// the cause on stderr. A health check for images that hold nothing but the binary.
pub async fn healthcheck(admin_addr: SocketAddr) -> ExitCode {
    let mut addr = admin_addr;
    if addr.ip().is_unspecified() {
        addr.set_ip(match addr {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    let cause = match timeout(CHECK_LIMIT, ask_ready(addr)).await {
        Ok(Ok(answer)) if answer.starts_with("HTTP/1.1 200 ") => return ExitCode::SUCCESS,
        Ok(Ok(answer)) => answer.lines().last().unwrap_or_default().to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_elapsed) => format!("no answer within {CHECK_LIMIT:?}"),
    };
    #[expect(
        clippy::print_stderr,
        reason = "the container runtime shows it as the result of the check"
    )]
    {
        eprintln!("{addr}: {cause}");
    }
    ExitCode::FAILURE
}

async fn ask_ready(addr: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(addr).await?;
    let request = format!("GET /ready HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // An answer of ours is short; whatever listens there instead may not be.
    stream.take(64 * 1024).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
