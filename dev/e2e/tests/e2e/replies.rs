//! Replies by what they match: each kind has a counter, and each request gets one response.

use e2e::{
    engine::Engine,
    fixture::Fixture,
    http::get,
    process::Process,
    topic::record,
    wait::{WAIT_LIMIT, until_eq},
};
use futures_util::future::join_all;
use uuid::Uuid;

fn kind(name: &str) -> String {
    format!("gateway_replies_total{{kind=\"{name}\"}}")
}

pub(crate) async fn each_kind_of_reply_is_counted(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let gateway = fixture.gateway().set("REPLY_TIMEOUT", "60s").ready().await;
    let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());
    let mut gone = gateway.connect().await;
    gone.send(get("/ping")).await.unwrap();
    let late = ping.read_one(0).await.key.unwrap();
    drop(gone);
    gateway.until_metric("gateway_in_flight", 0).await;
    let mut caller = gateway.connect().await;
    caller.send(get("/ping")).await.unwrap();
    let key = ping.read_one(1).await.key.unwrap();
    let id = Uuid::try_parse_ascii(&key).unwrap();

    let malformed: Vec<Option<Vec<u8>>> = vec![
        None,
        Some(Vec::new()),
        Some(b"no UUID".to_vec()),
        Some(vec![b'-'; 36]),
        Some(vec![0xff; 36]),
        Some(vec![b'k'; 100_000]),
        // The id in forms that the contract does not have.
        Some(id.as_bytes().to_vec()),
        Some(id.simple().to_string().into_bytes()),
        Some(id.braced().to_string().into_bytes()),
        Some([&key[..], b" "].concat()),
    ];
    let mut replies: Vec<_> = malformed
        .iter()
        .map(|key| record(key.as_deref(), Some(b"not delivered")))
        .collect();
    for value in [None, Some(&b""[..]), Some(b"\xff")] {
        replies.push(record(Some(Uuid::new_v4().to_string().as_bytes()), value));
    }
    replies.push(record(Some(b"pingpong_worker"), Some(b"")));
    replies.push(record(Some(&late), Some(b"late")));
    replies.extend([
        record(Some(&key), Some(b"first")),
        record(Some(&key), Some(b"second")),
        record(Some(&key), None),
    ]);
    pong.write_batch(replies).await;
    assert_eq!(caller.response().await.message(), "first");
    gateway.until_metric("gateway_in_flight", 0).await;
    pong.write(Some(&key), Some(b"after the response")).await;

    gateway.until_metric(&kind("duplicate"), 3).await;
    // Ten of them came within a second.
    let line = gateway.until_logged_once("a reply cannot be used").await;
    assert!(
        line.contains("it has no correlation id") && line.contains("headers=\"none\""),
        "{line}"
    );
    for (name, count) in [
        ("malformed", 10),
        ("foreign", 3),
        ("announcement", 1),
        ("late", 1),
        ("answered", 1),
    ] {
        assert_eq!(gateway.metric(&kind(name)).await, count, "{name}");
    }
    // The connection still works.
    caller.send(get("/ping")).await.unwrap();
    let key = ping.read_one(2).await.key.unwrap();
    pong.write(Some(&key), Some(b"next")).await;
    assert_eq!(caller.response().await.message(), "next");
}

const CALLERS: i64 = 100;

async fn call(gateway: &Process, name: &str) {
    let callers = (0..CALLERS).map(async |n| {
        let body = serde_json::json!({ "name": name, "value": n.to_string() }).to_string();
        let message = gateway.post("/ping", body).await.message();
        assert!(message.starts_with(&format!("{name} {n} ( ")), "{message}");
    });
    join_all(callers).await;
}

pub(crate) async fn two_gateways_and_two_workers_give_one_response_each(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (one, two, _first, _second) = tokio::join!(
        fixture.gateway().ready(),
        fixture.gateway().ready(),
        fixture.worker().ready(),
        fixture.worker().ready()
    );

    tokio::join!(call(&one, "one"), call(&two, "two"));

    for gateway in [&one, &two] {
        for (name, count) in [("answered", CALLERS), ("duplicate", CALLERS), ("foreign", 2 * CALLERS)] {
            let metric = async || gateway.metric(&kind(name)).await;
            until_eq(name, WAIT_LIMIT, count, metric).await;
        }
        let log = gateway.log();
        let warnings = log
            .iter()
            .filter(|line| line.contains(" WARN ") && !line.contains("not ready"));
        assert_eq!(warnings.count(), 0, "{log:?}");
    }
}
