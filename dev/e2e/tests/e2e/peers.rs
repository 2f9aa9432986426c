//! Gateway and worker alone, each against a scripted peer: either can be replaced by another implementation.

use std::collections::HashMap;

use e2e::{engine::Engine, fixture::Fixture, http::get};
use serde_json::{Value, json};

pub(crate) async fn gateway_delivers_replies_of_a_scripted_worker_by_key(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let gateway = fixture.gateway().ready().await;
    let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());

    let replies = [
        (&b"for the \"first\"\n"[..], "for the \"first\"\n"),
        (b"\xff\xfe!", "\u{fffd}\u{fffd}!"),
        (b"", ""),
    ];
    let mut callers = Vec::new();
    for (offset, (value, message)) in (0..).zip(replies) {
        let mut caller = gateway.connect().await;
        caller.send(get("/ping")).await.unwrap();
        let key = ping.read_one(offset).await.key.unwrap();
        callers.push((caller, key, value, message));
    }
    for (_, key, value, _) in callers.iter().rev() {
        pong.write(Some(key), Some(value)).await;
    }

    for (mut caller, _, _, message) in callers {
        assert_eq!(caller.response().await.message(), message);
    }
}

pub(crate) async fn gateway_ignores_replies_from_before_its_start(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());
    for _ in 0..3 {
        pong.write(Some(b"no UUID"), Some(b"old")).await;
    }
    let gateway = fixture.gateway().ready().await;

    let mut caller = gateway.connect().await;
    caller.send(get("/ping")).await.unwrap();
    let key = ping.read_one(0).await.key.unwrap();
    pong.write(Some(&key), Some(b"new")).await;

    assert_eq!(caller.response().await.message(), "new");
    assert_eq!(gateway.metric("gateway_replies_total{kind=\"malformed\"}").await, 0);
}

/// The id of the value is the key of the reply, whatever the key of the request is.
pub(crate) async fn worker_replies_to_a_scripted_gateway(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let _worker = fixture.worker().ready().await;
    let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());

    let request = |id: &str, name: &str, value: &str| json!({ "id": id, "name": name, "value": value });
    let with_more = json!({ "id": "e", "name": "n", "value": "v", "extra": [{}], "Id": 1 });
    let long = "l".repeat(20_000);
    let cases: [(Option<&[u8]>, Value, &str, &str); 6] = [
        (Some(b"a"), request("a", "Ping", "Pong"), "a", "Ping Pong ( a ) "),
        (Some(b"other"), request("b", "n", "v"), "b", "n v ( b ) "),
        (None, request("no UUID ä", "n", "v"), "no UUID ä", "n v ( no UUID ä ) "),
        (Some(b"\xff"), request("", "", ""), "", "  (  ) "),
        (Some(b"e"), with_more, "e", "n v ( e ) "),
        (
            Some(b"f"),
            request("f", &long, "\"\n"),
            "f",
            &format!("{long} \"\n ( f ) "),
        ),
    ];
    for (key, value, _, _) in &cases {
        ping.write(*key, Some(value.to_string().as_bytes())).await;
    }

    // In any order: a large record does not delay a small one.
    let replies: HashMap<_, _> = pong
        .read(0, cases.len())
        .await
        .into_iter()
        .map(|read| (read.record.key.unwrap(), read.record.value.unwrap()))
        .collect();
    for (_, _, id, text) in &cases {
        assert_eq!(String::from_utf8_lossy(&replies[id.as_bytes()]), *text);
    }
    assert_eq!(pong.read_all().await.len(), cases.len());
}
