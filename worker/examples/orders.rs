//! A service behind the routes `POST /orders` (a caller waits) and `POST /events` (`reply = false`).
//!
//! `KAFKA_BROKERS=localhost:9092 WORKER_GROUP=orders cargo run -p worker --example orders`

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use worker::{Failure, Reply, Request, Worker};

#[derive(Debug, Deserialize)]
struct Order {
    sku: String,
    quantity: u32,
}

#[derive(Debug, Serialize)]
struct Placed {
    id: u64,
}

/// The orders by their idempotency key. A database has a unique constraint on it.
#[derive(Debug, Clone, Default)]
struct Store {
    ids: Arc<Mutex<BTreeMap<String, u64>>>,
    next: Arc<AtomicU64>,
}

/// A request may come twice. The second one finds the order of the first.
async fn place(request: Request, store: Store) -> Result<Reply, Failure> {
    let order: Order = request.json()?;
    if order.quantity == 0 {
        return Err(Failure::new(422, format!("{}: quantity must not be 0", order.sku)));
    }
    let key = request.header("idempotency-key");
    let key = key.ok_or_else(|| Failure::new(400, "idempotency-key is missing"))?;
    let id = *store
        .ids
        .lock()
        .entry(key.to_owned())
        .or_insert_with(|| store.next.fetch_add(1, Ordering::Relaxed));
    Ok(Reply::json(&Placed { id })?
        .status(201)
        .header("location", format!("/orders/{id}")))
}

/// Any error: the event is tried again, then written to `DEAD_LETTER_TOPIC`.
async fn on_event(request: Request) -> Result<Reply, Failure> {
    let event: serde_json::Value = request.json()?;
    let _kind = event.get("kind").ok_or_else(|| Failure::new(400, "kind is missing"))?;
    Ok(Reply::no_content())
}

#[tokio::main]
async fn main() -> Result<(), worker::Error> {
    let store = Store::default();
    Worker::from_env()
        .topic("orders", move |request| place(request, store.clone()))
        .topic("events", on_event)
        .serve()
        .await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn repeated_order_has_the_same_id() {
        let store = Store::default();
        let order = || {
            let request = Request::post("/orders").header("idempotency-key", "k");
            request.json(&json!({"sku": "a", "quantity": 1}))
        };
        let first = place(order(), store.clone()).await.unwrap();
        let second = place(order(), store).await.unwrap();
        assert_eq!(first, second);
    }

    #[tokio::test]
    async fn nothing_is_not_an_order() {
        let request = Request::post("/orders").json(&json!({"sku": "a", "quantity": 0}));
        let failure = place(request, Store::default()).await.unwrap_err();
        assert_eq!(failure.status(), 422);
    }
}
