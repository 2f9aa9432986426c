//! Forwards requests to an HTTP server, whose responses are the replies.
//!
//! - While the server refuses connections, no request is read, and those that were read are kept until their deadline: they
//!   were surely not executed.
//! - What breaks after a request was sent is a 502, and is not repeated.
//! - Where no caller waits, a broken connection and the statuses 5xx, 408 and 429 are failed attempts.

use std::{convert::Infallible, error::Error, fmt, net::SocketAddr, str::FromStr, time::Duration};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Uri,
    header::HOST,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use shared::{headers::http::CONTENT_TYPE, readiness::HealthCheck};
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, sleep, timeout},
};

use crate::{Failure, Reply, Request, Status, gate::Gate, reply::passed_on};

/// How long an idle connection is kept. Servers close them after 2 s (gunicorn) or later.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// Between two attempts to connect while the server is not there.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);

/// Bound on one attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The largest response: what a topic takes by default, without room for key and headers.
const MAX_RESPONSE_BYTES: usize = 1_000_000;

/// Tells the server how long the caller still waits, in milliseconds.
const DEADLINE_FIELD: HeaderName = HeaderName::from_static("x-request-deadline-ms");

/// The address of an HTTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForwardTo(Authority);

/// Forwards requests. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Forward {
    to: ForwardTo,
    /// The response headers that replies have beside the content type, in lower case.
    reply_headers: Vec<String>,
    client: Client<HttpConnector, Full<Bytes>>,
    /// Closed by the first refused connection; opened by the watch.
    gate: Gate,
}

// === impl ForwardTo ===

impl FromStr for ForwardTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = || "an HTTP server without a path, such as http://127.0.0.1:3000".to_owned();
        let uri: Uri = text.parse().map_err(|_| allowed())?;
        let is_plain = uri.scheme() == Some(&Scheme::HTTP) && matches!(uri.path(), "" | "/") && uri.query().is_none();
        let authority = uri
            .authority()
            .filter(|authority| is_plain && !authority.as_str().contains('@'));
        authority.cloned().map(Self).ok_or_else(allowed)
    }
}

impl ForwardTo {
    /// Host and port, for a connection.
    fn host_and_port(&self) -> String {
        let port = self.0.port_u16().unwrap_or(80);
        format!("{}:{port}", self.0.host())
    }
}

impl fmt::Display for ForwardTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

// === impl Forward ===

impl Forward {
    pub(crate) fn new(to: ForwardTo, reply_headers: Vec<String>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        Self {
            to,
            reply_headers,
            client,
            gate: Gate::new(false),
        }
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Opens the gate whenever the server accepts a connection.
    pub(crate) async fn watch(self, health_check: HealthCheck) -> Infallible {
        loop {
            match timeout(CONNECT_TIMEOUT, self.probe()).await {
                Ok(Ok(())) => {
                    health_check.ready();
                    self.gate.set_open(true);
                    self.gate.closed().await;
                }
                Ok(Err(error)) => health_check.not_ready(&format_args!("{}: {error}", self.to)),
                Err(_elapsed) => health_check.not_ready(&format_args!("{}: no connection in time", self.to)),
            }
            sleep(PROBE_INTERVAL).await;
        }
    }

    async fn probe(&self) -> std::io::Result<()> {
        let addrs: Vec<SocketAddr> = lookup_host(self.to.host_and_port()).await?.collect();
        TcpStream::connect(&addrs[..]).await.map(drop)
    }

    /// Sends a request, and makes its response the reply.
    pub(crate) async fn send(self, request: Request) -> Result<Reply, Failure> {
        let wants_reply = request.wants_reply();
        let request = self.http_request(request)?;
        let response = match self.client.request(request).await {
            Ok(response) => response,
            Err(error) if error.is_connect() => {
                self.gate.set_open(false);
                return Err(Failure::not_executed(error));
            }
            Err(error) => return Err(broken(error)),
        };
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await;
        let body = body.map_err(broken)?.to_bytes();
        if !wants_reply && is_failed_attempt(head.status) {
            return Err(Failure::new(
                head.status,
                format!("the HTTP server answered {}", head.status),
            ));
        }
        let is_wanted = |name: &str| name == CONTENT_TYPE || self.reply_headers.iter().any(|wanted| wanted == name);
        let headers = passed_on(&head.headers, is_wanted);
        let mut response = http::Response::new(body);
        *response.status_mut() = head.status;
        Ok(Reply::from(response).with_headers(headers))
    }

    fn http_request(&self, request: Request) -> Result<http::Request<Full<Bytes>>, Failure> {
        let deadline = request.deadline();
        let mut request = request.into_http()?;
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        uri.scheme = Some(Scheme::HTTP);
        // Whatever the request says.
        uri.authority = Some(self.to.0.clone());
        uri.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
        *request.uri_mut() =
            Uri::from_parts(uri).map_err(|_| Failure::new(Status::BAD_REQUEST, "the path is not valid"))?;
        let host = HeaderValue::from_str(self.to.0.as_str())?;
        request.headers_mut().insert(HOST, host);
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now()).as_millis();
            let left = u64::try_from(left).unwrap_or(u64::MAX);
            request.headers_mut().insert(DEADLINE_FIELD, left.into());
        }
        Ok(request.map(Full::new))
    }
}

/// It is not known whether the server has executed the request.
fn broken(error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
    Failure::new(Status::BAD_GATEWAY, "the connection to the service broke").because(error)
}

/// Whether a request that no caller waits for is tried again.
fn is_failed_attempt(status: Status) -> bool {
    status.is_server_error() || matches!(status, Status::REQUEST_TIMEOUT | Status::TOO_MANY_REQUESTS)
}

#[cfg(test)]
mod tests;
