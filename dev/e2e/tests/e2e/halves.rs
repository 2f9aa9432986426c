//! Each half alone, against a test that plays the other half by hand: either can be swapped for another
//! implementation of the contract.

use std::collections::HashMap;

use e2e::{engine::Engine, http::get, process::Process, scene::Scene, topic::Topic};
use serde_json::{Value, json};

/// Sends a request whose answer is awaited later.
async fn asked(gateway: &Process) -> e2e::http::Connection {
    let mut connection = gateway.connect().await;
    connection.send(get("/ping")).await.unwrap();
    connection
}

/// The id of the request record at an offset.
async fn id_at(ping: &Topic, offset: i64) -> Vec<u8> {
    ping.read_one(offset).await.key.unwrap()
}

pub(crate) async fn a_gateway_answers_from_a_hand_made_worker(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let gateway = scene.gateway().ready().await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());

    let mut first = asked(&gateway).await;
    let first_id = id_at(&ping, 0).await;
    let mut second = asked(&gateway).await;
    let second_id = id_at(&ping, 1).await;
    // In the other order: the key decides, not the turn.
    pong.write(Some(&second_id), Some(b"for the second")).await;
    pong.write(Some(&first_id), Some(b"for the \"first\"\n")).await;

    assert_eq!(first.answer().await.message(), "for the \"first\"\n");
    assert_eq!(second.answer().await.message(), "for the second");
}

pub(crate) async fn a_gateway_takes_no_reply_from_before_its_start(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());
    for _ in 0..3 {
        pong.write(Some(b"no key of ours"), Some(b"old")).await;
    }
    let gateway = scene.gateway().ready().await;

    let mut caller = asked(&gateway).await;
    pong.write(Some(&id_at(&ping, 0).await), Some(b"new")).await;

    assert_eq!(caller.answer().await.message(), "new");
    assert_eq!(gateway.metric("gateway_replies_total{kind=\"malformed\"}").await, 0);
}

pub(crate) async fn a_reply_that_is_not_text_is_decoded_lossily(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let gateway = scene.gateway().ready().await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());

    for (offset, (bytes, text)) in (0..).zip([
        (&b"\xff\xfe!"[..], "\u{fffd}\u{fffd}!"),
        (b"cut \xf0\x9f\x98", "cut \u{fffd}"),
        (b"", ""),
        (b"\0", "\0"),
    ]) {
        let mut caller = asked(&gateway).await;
        pong.write(Some(&id_at(&ping, offset).await), Some(bytes)).await;
        assert_eq!(caller.answer().await.message(), text);
    }
}

pub(crate) async fn a_worker_answers_a_hand_made_gateway(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let _worker = scene.worker().ready().await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());

    let request = |id: &str, name: &str, value: &str| json!({ "id": id, "name": name, "value": value });
    let with_more = json!({ "id": "e", "name": "n", "value": "v", "extra": [{}], "Id": 1 });
    let long = "l".repeat(20_000);
    let cases: [(Option<&[u8]>, Value, &str, String); 6] = [
        (
            Some(b"a"),
            request("a", "Ping", "Pong"),
            "a",
            "Ping Pong ( a ) ".to_owned(),
        ),
        // The id of the value counts, not the key of the record.
        (Some(b"other"), request("b", "n", "v"), "b", "n v ( b ) ".to_owned()),
        (
            None,
            request("no uuid at all ä", "n", "v"),
            "no uuid at all ä",
            "n v ( no uuid at all ä ) ".to_owned(),
        ),
        (Some(b"\xff"), request("", "", ""), "", "  (  ) ".to_owned()),
        (Some(b"e"), with_more, "e", "n v ( e ) ".to_owned()),
        (
            Some(b"f"),
            request("f", &long, "\"\n"),
            "f",
            format!("{long} \"\n ( f ) "),
        ),
    ];
    for (key, value, _, _) in &cases {
        ping.write(*key, Some(value.to_string().as_bytes())).await;
    }

    // In any order: a large record does not hold up a small one.
    let replies: HashMap<_, _> = pong
        .read(0, cases.len())
        .await
        .into_iter()
        .map(|it| (it.record.key.unwrap(), it.record.value.unwrap()))
        .collect();
    for (_, _, id, text) in &cases {
        let reply = replies[id.as_bytes()].clone();
        assert_eq!(String::from_utf8(reply).unwrap(), *text);
    }
    assert_eq!(pong.read_all().await.len(), cases.len());
}

async fn write_request(ping: &Topic, id: &str) {
    let value = json!({ "id": id, "name": "n", "value": "v" }).to_string();
    ping.write(Some(id.as_bytes()), Some(value.as_bytes())).await;
}

pub(crate) async fn a_worker_begins_with_what_comes_after_its_start(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());
    write_request(&ping, "before").await;

    let _worker = scene.worker().ready().await;
    write_request(&ping, "after").await;

    assert_eq!(pong.reply(0).await.key.unwrap(), b"after");
}

pub(crate) async fn a_worker_can_begin_with_the_first_request(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());
    write_request(&ping, "before").await;

    let _worker = scene.worker().set("START_FROM", "earliest").ready().await;
    write_request(&ping, "after").await;

    let replies = pong.read(0, 2).await;
    let keys: Vec<_> = replies.into_iter().map(|it| it.record.key.unwrap()).collect();
    assert_eq!(keys, [&b"before"[..], b"after"]);
}
