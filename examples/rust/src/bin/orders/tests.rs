//! A handler is a function: its tests need no Kafka.

use serde_json::json;

use super::*;

fn order(quantity: u32) -> Request {
    let request = Request::post("/orders").header("idempotency-key", "k");
    request.json(&json!({ "sku": "a", "quantity": quantity }))
}

#[tokio::test]
async fn repeated_order_has_the_same_id() {
    let store = Store::default();
    let first = place(order(1), Arc::clone(&store)).await.unwrap();
    let second = place(order(1), store).await.unwrap();
    assert_eq!(first, second);
}

#[tokio::test]
async fn nothing_is_not_an_order() {
    let failure = place(order(0), Store::default()).await.unwrap_err();
    assert_eq!(failure.status(), 422);
}
