//! The admin listener: `/live`, `/ready` and `/metrics`, and the client of `/ready` for health checks.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    http::request::Parts,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use crate::{
    http_client, logging,
    readiness::Readiness,
    server::{Answer, Handler, Limits, Peer, Server},
};

/// Probes and scrapers are few.
const LIMITS: Limits = Limits {
    max_connections: 64,
    header_timeout: Duration::from_secs(10),
};

/// The content type that Prometheus asks for.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A running admin listener. It outlives everything else in the process, so that a drain can be watched.
#[derive(Debug)]
pub struct Admin {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// What the admin listener shows.
#[derive(Debug)]
struct View {
    readiness: Readiness,
    registry: Registry,
}

// === impl Admin ===

impl Admin {
    /// Serves on `listener`.
    #[must_use]
    pub fn spawn(listener: TcpListener, readiness: Readiness, mut registry: Registry) -> Self {
        logging::register(&mut registry);
        let view = View { readiness, registry };
        let (end, ended) = oneshot::channel();
        let task = tokio::spawn(async move {
            let ended = async {
                // Dropped is as good as sent.
                let _ = ended.await;
            };
            // A probe in flight is not waited for.
            drop(Server::new(listener, LIMITS).serve(view, ended).await);
        });
        Self { end, task }
    }

    /// Closes it.
    pub async fn stop(self) {
        drop(self.end);
        // It ends at once, and has no result.
        let _ = self.task.await;
    }
}

// === impl View ===

impl View {
    fn ready(&self) -> Answer {
        let unmet = self.readiness.not_ready();
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
    type Asked = Answer;

    fn read(&self, request: &Parts, _: Peer) -> Answer {
        if !matches!(request.method, Method::GET | Method::HEAD) {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET or HEAD\n");
            let headers: &mut HeaderMap = answer.headers_mut();
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match request.uri.path() {
            "/live" => plain(StatusCode::OK, "text/plain", "live\n"),
            "/ready" => self.ready(),
            "/metrics" => self.metrics(),
            _ => plain(StatusCode::NOT_FOUND, "text/plain", "/live, /ready or /metrics\n"),
        }
    }

    async fn answer(&self, answer: Answer, _: &mut Incoming) -> Answer {
        answer
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
    let cause = match http_client::get(admin_addr, "/ready").await {
        Ok(answer) if answer.status == 200 => return ExitCode::SUCCESS,
        Ok(answer) => answer.body,
        Err(error) => error.to_string(),
    };
    #[expect(
        clippy::print_stderr,
        reason = "the container runtime shows it as the result of the check"
    )]
    {
        eprintln!("{admin_addr}: {cause}");
    }
    ExitCode::FAILURE
}
