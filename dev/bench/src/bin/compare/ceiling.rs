//! HTTP alone: what hyper does on this machine when it answers at once.
//!
//! The settings are those of the gateway's listener, and so is the answer, with an id that only counts: the load
//! generator checks it like any other.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response,
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

/// Everything of an answer but the last twelve digits of its id.
const BEFORE: &str = r#"{"message":"Ping Pong ( 00000000-0000-4000-8000-"#;
const AFTER: &str = r#" ) "}"#;

/// Serves for ever.
pub(crate) async fn serve(addr: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(addr).await?;
    let mut http = http1::Builder::new();
    // HEADER_TIMEOUT's default, and the buffer of the gateway's listener.
    http.timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .max_buf_size(16 * 1024);
    let number = Arc::new(AtomicU64::new(0));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let number = Arc::clone(&number);
        let service = service_fn(move |_request| {
            let body = format!("{BEFORE}{:012x}{AFTER}", number.fetch_add(1, Ordering::Relaxed));
            let mut answer = Response::new(Full::new(Bytes::from(body)));
            let json = HeaderValue::from_static("application/json; charset=utf-8");
            answer.headers_mut().insert(CONTENT_TYPE, json);
            std::future::ready(Ok::<_, Infallible>(answer))
        });
        // A connection that breaks is the generator's to see.
        tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
    }
}
