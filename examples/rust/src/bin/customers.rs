//! An axum router behind the route `GET /customers/{id}`: its requests come from Kafka instead of a socket.

use std::{env, io};

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::Path,
    http::{Response, StatusCode, header::ETAG},
    response::IntoResponse,
    routing::get,
};
use serde_json::json;
use tower::ServiceExt;
use worker::{Failure, Reply, Request, Worker};

const MAX_BODY: usize = 512 * 1024;

async fn customer(Path(id): Path<String>) -> impl IntoResponse {
    match id.parse::<u64>() {
        Ok(id) => ([(ETAG, format!("\"{id}\""))], Json(json!({ "id": id }))).into_response(),
        Err(_) => (StatusCode::NOT_FOUND, Json(json!({ "error": "no such customer" }))).into_response(),
    }
}

/// Any tower service can take the place of the router.
async fn serve(request: Request, router: Router) -> Result<Reply, Failure> {
    let response = router.oneshot(request.into_http()?.map(Body::from)).await?;
    let (head, body) = response.into_parts();
    let body = to_bytes(body, MAX_BODY).await?;
    Ok(Response::from_parts(head, body).into())
}

#[tokio::main]
async fn main() -> Result<(), worker::Error> {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    let topic = env::var("TOPIC").unwrap_or_else(|_| "customers".to_owned());
    let router = Router::new().route("/customers/{id}", get(customer));
    Worker::from_env()
        .topic(&topic, move |request| serve(request, router.clone()))
        .serve()
        .await
}
