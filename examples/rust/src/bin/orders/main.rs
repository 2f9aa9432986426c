//! A service behind the route `POST /orders`, on the worker library.

use std::{
    collections::BTreeMap,
    env, io,
    sync::{Arc, Mutex},
};

use serde::{Deserialize, Serialize};
use worker::{Failure, Reply, Request, Worker};

#[derive(Debug, Deserialize)]
struct Order {
    sku: String,
    quantity: u32,
}

#[derive(Debug, Serialize)]
struct Placed {
    id: usize,
    sku: String,
}

/// The ids of the orders by their idempotency keys. A database has a unique constraint on the key.
type Store = Arc<Mutex<BTreeMap<String, usize>>>;

/// A request may be repeated. The second one finds the order of the first.
async fn place(request: Request, store: Store) -> Result<Reply, Failure> {
    let order: Order = request.json()?;
    if order.quantity == 0 {
        return Err(Failure::new(422, "an order has a quantity of at least 1"));
    }
    let key = request.header("idempotency-key");
    let key = key.ok_or_else(|| Failure::new(400, "idempotency-key is missing"))?;
    let id = {
        let mut ids = store
            .lock()
            .map_err(|_| Failure::new(500, "an order broke the store"))?;
        let next = ids.len() + 1;
        *ids.entry(key.to_owned()).or_insert(next)
    };
    let placed = Placed { id, sku: order.sku };
    Ok(Reply::json(&placed)?
        .status(201)
        .header("location", format!("/orders/{id}")))
}

#[tokio::main]
async fn main() -> Result<(), worker::Error> {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    let topic = env::var("TOPIC").unwrap_or_else(|_| "orders".to_owned());
    let store = Store::default();
    Worker::from_env()
        .topic(&topic, move |request| place(request, Arc::clone(&store)))
        .serve()
        .await
}

#[cfg(test)]
mod tests;
