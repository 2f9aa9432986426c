//! A service with a test that sends real HTTP requests: through the gateway, an in-memory broker and the worker.

#![allow(clippy::unwrap_used, reason = "a panic fails the test and names the line")]

use std::time::Duration;

use http::Request as HttpRequest;
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::Deserialize;
use serde_json::{Value, json};
use standalone::Standalone;
use tokio::{sync::mpsc, time::timeout};
use worker::{Failure, Reply, Request, Worker};

/// Bound on the wait for an event.
const WAIT_LIMIT: Duration = Duration::from_secs(30);

// === The service ===

#[derive(Debug, Deserialize)]
struct Order {
    quantity: u32,
}

async fn place(request: Request) -> Result<Reply, Failure> {
    let order: Order = request.json()?;
    if order.quantity == 0 {
        return Err(Failure::new(422, "quantity must not be 0"));
    }
    let customer = request.header("x-customer").unwrap_or_default();
    let reply = Reply::json(&json!({ "customer": customer, "quantity": order.quantity }))?;
    Ok(reply.status(201).header("location", "/orders/7"))
}

async fn on_event(request: Request, seen: mpsc::Sender<String>) -> Result<Reply, Failure> {
    seen.try_send(request.param("id").unwrap_or_default().to_owned())?;
    Ok(Reply::no_content())
}

/// The worker that `main` serves, too.
fn service(seen: mpsc::Sender<String>) -> Worker {
    Worker::from_env()
        .topic("orders", place)
        .topic("events", move |request| on_event(request, seen.clone()))
}

// === Its tests ===

type HttpClient = Client<HttpConnector, Full<&'static [u8]>>;

/// Any other HTTP client will do.
fn http_client() -> HttpClient {
    Client::builder(TokioExecutor::new()).build_http()
}

async fn post(client: &HttpClient, url: String, body: &'static str) -> (u16, Option<String>, Value) {
    let request = HttpRequest::post(url).header("x-customer", "ann");
    let response = client.request(request.body(Full::new(body.as_bytes())).unwrap());
    let (head, body) = response.await.unwrap().into_parts();
    let location = head
        .headers
        .get("location")
        .map(|value| value.to_str().unwrap().to_owned());
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), location, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn order_is_placed_and_its_event_is_handled() {
    let (seen, mut events) = mpsc::channel(16);
    let standalone = Standalone::start("tests/routes.toml", service(seen)).await.unwrap();
    let client = http_client();

    let placed = post(&client, standalone.url("/orders"), r#"{"quantity":2}"#).await;
    let expected = (
        201,
        Some("/orders/7".to_owned()),
        json!({ "customer": "ann", "quantity": 2 }),
    );
    assert_eq!(placed, expected);
    let (status, _, failure) = post(&client, standalone.url("/orders"), r#"{"quantity":0}"#).await;
    assert_eq!((status, failure), (422, json!({ "error": "quantity must not be 0" })));

    // No caller waits for an event, so the test waits for the handler.
    let (status, ..) = post(&client, standalone.url("/orders/7/events"), "{}").await;
    assert_eq!(status, 202);
    let seen = timeout(WAIT_LIMIT, events.recv()).await.unwrap();
    assert_eq!(seen.as_deref(), Some("7"));
}

#[tokio::test]
async fn services_of_tests_are_separate() {
    let (seen, _events) = mpsc::channel(16);
    let start = || Standalone::start("tests/routes.toml", service(seen.clone()));
    let (one, two) = tokio::join!(start(), start());
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!((one.url("/"), one.brokers()), (two.url("/"), two.brokers()));
    drop(one);
    let (status, ..) = post(&http_client(), two.url("/orders"), r#"{"quantity":1}"#).await;
    assert_eq!(status, 201);
}

#[tokio::test]
async fn problems_of_the_start_are_named() {
    let missing = Standalone::start("tests/none.toml", Worker::from_env().topic("a", place)).await;
    let missing = missing.unwrap_err().to_string();
    assert!(missing.contains("tests/none.toml"), "{missing}");
    let without_topics = Standalone::start("tests/routes.toml", Worker::from_env()).await;
    assert_eq!(without_topics.unwrap_err().to_string(), "the worker has no topic");
    let without_time = Worker::from_env()
        .topic("orders", place)
        .default_timeout(Duration::ZERO);
    let without_time = Standalone::start("tests/routes.toml", without_time).await;
    assert_eq!(
        without_time.unwrap_err().to_string(),
        "the default timeout is 0: it must be longer"
    );
}
