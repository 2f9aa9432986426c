//! The admin listener (`/live`, `/ready`, `/metrics`, and pages of the process), and the health check that asks it.

use std::{fmt, net::SocketAddr, process::ExitCode, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    http::request::Parts,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use crate::{
    http_client, logging,
    readiness::Readiness,
    server::{Handler, Limits, RequestError, Response, Server},
};

const LIMITS: Limits = Limits {
    max_connections: 64,
    header_timeout: Duration::from_secs(10),
    // More than the usual interval of a scrape.
    idle_timeout: Duration::from_secs(75),
};

/// The content type that Prometheus asks for.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A running admin listener. It is stopped last, so that a drain can be observed.
#[derive(Debug)]
pub struct Admin {
    shutdown: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// A page of JSON beside those that every process has.
pub struct Page {
    path: &'static str,
    json: Box<dyn Fn() -> String + Send + Sync>,
}

/// Answers the requests to the admin listener.
#[derive(Debug)]
struct AdminService {
    readiness: Readiness,
    registry: Registry,
    pages: Vec<Page>,
}

// === impl Page ===

impl Page {
    /// A page at `path`, made anew for each request.
    #[must_use]
    pub fn new(path: &'static str, json: impl Fn() -> String + Send + Sync + 'static) -> Self {
        let json = Box::new(json);
        Self { path, json }
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Page").field(&self.path).finish()
    }
}

// === impl Admin ===

impl Admin {
    /// Serves on `listener`.
    #[must_use]
    pub fn spawn(listener: TcpListener, readiness: Readiness, mut registry: Registry, pages: Vec<Page>) -> Self {
        logging::register(&mut registry);
        let service = AdminService {
            readiness,
            registry,
            pages,
        };
        let (shutdown, on_shutdown) = oneshot::channel();
        let task = tokio::spawn(async move {
            let on_shutdown = async {
                // An error means that the sender was dropped: that asks for a shutdown as well.
                let _ = on_shutdown.await;
            };
            // Open connections are not drained.
            drop(Server::new(listener, LIMITS).serve(service, on_shutdown).await);
        });
        Self { shutdown, task }
    }

    /// Stops accepting, and returns without a drain.
    pub async fn stop(self) {
        drop(self.shutdown);
        // An error is a panic, which the panic hook has logged.
        let _ = self.task.await;
    }
}

// === impl AdminService ===

impl AdminService {
    fn ready(&self) -> Response {
        let not_ready = self.readiness.not_ready();
        let status = if not_ready.is_empty() {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let causes: serde_json::Map<_, _> = not_ready
            .into_iter()
            .map(|(name, cause)| (name, cause.into()))
            .collect();
        let body = serde_json::json!({ "ready": causes.is_empty(), "causes": causes });
        response(status, "application/json", body.to_string())
    }

    fn page(&self, path: &str) -> Response {
        if let Some(page) = self.pages.iter().find(|page| page.path == path) {
            return response(StatusCode::OK, "application/json", (page.json)());
        }
        let mut paths = "/live, /ready, /metrics".to_owned();
        for page in &self.pages {
            paths.push_str(", ");
            paths.push_str(page.path);
        }
        paths.push('\n');
        response(StatusCode::NOT_FOUND, "text/plain", paths)
    }

    fn metrics(&self) -> Response {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => response(StatusCode::OK, OPENMETRICS, text),
            Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string()),
        }
    }
}

impl Handler for AdminService {
    type Head = Response;

    fn read_head(&self, head: &Parts, accepted: Result<(), RequestError>) -> Response {
        if let Err(error) = accepted {
            return refused(error);
        }
        if !matches!(head.method, Method::GET | Method::HEAD) {
            let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET or HEAD\n");
            refused
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        match head.uri.path() {
            "/live" => response(StatusCode::OK, "text/plain", "live\n"),
            "/ready" => self.ready(),
            "/metrics" => self.metrics(),
            path => self.page(path),
        }
    }

    async fn respond(&self, response: Response, _: &mut Incoming) -> Response {
        response
    }
}

fn refused(error: RequestError) -> Response {
    let (status, text) = match error {
        RequestError::TooManyConnections => (StatusCode::SERVICE_UNAVAILABLE, "too many connections\n"),
        RequestError::InvalidHost => (StatusCode::BAD_REQUEST, "host must be present once, and valid\n"),
        RequestError::InvalidTarget => (StatusCode::BAD_REQUEST, "the request target must be a path\n"),
        RequestError::UnsupportedTransferCoding => (StatusCode::NOT_IMPLEMENTED, "transfer-encoding must be chunked\n"),
    };
    response(status, "text/plain", text)
}

fn response(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Asks `/ready` of the process on this host whose admin listener is at `admin_addr`. Exit code 0 when it is ready, else 1
/// with the cause on stderr. It serves as health check in images that contain only the binary.
pub async fn healthcheck(admin_addr: SocketAddr) -> ExitCode {
    let cause = match http_client::get(admin_addr, "/ready").await {
        Ok(response) if response.status == 200 => return ExitCode::SUCCESS,
        Ok(response) => response.body,
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
