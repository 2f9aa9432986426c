//! The contract of `/ping` between caller, gateway, Kafka and worker, byte for byte.

use std::collections::HashSet;

use e2e::{
    engine::Engine,
    environment::has,
    fixture::Fixture,
    http::{get, post},
    kcat,
    process::Process,
};
use futures_util::future::join_all;
use libtest_mimic::Completion;
use serde_json::{Value, json};
use uuid::{Uuid, Version};

/// The id in the reply text `<words> ( <id> ) `, checked to be a UUID v4 in its canonical form.
fn id_of(message: &str, words: &str) -> String {
    let rest = message.strip_prefix(words).and_then(|rest| rest.strip_prefix(" ( "));
    let id = rest.and_then(|rest| rest.strip_suffix(" ) "));
    let id = id.unwrap_or_else(|| panic!("{message:?} is no reply to {words:?}"));
    let parsed = Uuid::parse_str(id).unwrap();
    assert_eq!(parsed.get_version(), Some(Version::Random), "{id}");
    assert_eq!(parsed.hyphenated().to_string(), id);
    id.to_owned()
}

fn text(bytes: Option<Vec<u8>>) -> String {
    String::from_utf8(bytes.unwrap()).unwrap()
}

pub(crate) async fn get_ping_matches_the_contract_byte_for_byte(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (gateway, _worker) = fixture.pair().await;

    let response = gateway.get("/ping").await;

    let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());
    let request = ping.read_one(0).await;
    let id = id_of(&response.message(), "Ping Pong");
    assert_eq!(text(request.key), id);
    assert_eq!(
        text(request.value),
        format!(r#"{{"id":"{id}","name":"Ping","value":"Pong"}}"#)
    );
    let reply = pong.reply(0).await;
    assert_eq!(text(reply.key), id);
    assert_eq!(text(reply.value), format!("Ping Pong ( {id} ) "));
    assert_eq!(response.text(), format!(r#"{{"message":"Ping Pong ( {id} ) "}}"#));
    assert_eq!((ping.end().await, pong.read_all().await.len()), (1, 1));
}

pub(crate) async fn post_ping_carries_any_text(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (gateway, _worker) = fixture.pair().await;
    let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());

    // A JSON string of the body, and the text it stands for.
    let cases = [
        (r#""w 1""#, "w 1"),
        (r#""""#, ""),
        (r#"" ) ( \"\\\/\n\r\t\b\f""#, " ) ( \"\\/\n\r\t\u{8}\u{c}"),
        (r#""\u0000\u001f\u007f""#, "\0\u{1f}\u{7f}"),
        (r#""\ud83d\ude00 \u00e4""#, "😀 ä"),
        (r#""😀 ä \u2028 </script>""#, "😀 ä \u{2028} </script>"),
    ];
    for (index, (json, meant)) in cases.into_iter().enumerate() {
        let body = format!(r#" {{"value":{json},"more":{{"id":[1]}},"id":"mine","name":{json}}} "#);
        let response = gateway.post("/ping", body).await;

        let id = id_of(&response.message(), &format!("{meant} {meant}"));
        let request = ping.read_one(i64::try_from(index).unwrap()).await;
        assert_eq!(text(request.key), id);
        assert_eq!(
            serde_json::from_slice::<Value>(&request.value.unwrap()).unwrap(),
            json!({ "id": id, "name": meant, "value": meant })
        );
        let reply = pong.reply(index).await;
        assert_eq!(text(reply.value), format!("{meant} {meant} ( {id} ) "));
    }
}

pub(crate) async fn kcat_reads_the_same_bytes(engine: &Engine) -> Completion {
    if !has("kcat", "-V") {
        return Completion::ignored_with("kcat is not installed");
    }
    let fixture = Fixture::shared(engine).await;
    let (gateway, _worker) = fixture.pair().await;

    let message = gateway.post("/ping", r#"{"name":"a","value":"b"}"#).await.message();

    let id = id_of(&message, "a b");
    let request = format!(r#"{{"id":"{id}","name":"a","value":"b"}}"#);
    for (topic, value) in [(fixture.ping_name(), request), (fixture.pong_name(), message)] {
        let read = kcat::read(fixture.brokers(), topic, "%K %S %k%s\n").await;
        let is_heartbeat = |line: &&str| line.starts_with("15 ") && line.contains(" pingpong_worker{");
        let records: Vec<_> = read.lines().filter(|line| !is_heartbeat(line)).collect();
        assert_eq!(records, [format!("36 {} {id}{value}", value.len())]);
    }
    Completion::Completed
}

pub(crate) async fn concurrent_callers_get_their_own_replies(engine: &Engine) {
    const CALLERS: usize = 50;
    const TURNS: usize = 20;

    let fixture = Fixture::shared(engine).await;
    let (gateway, _worker) = fixture.pair().await;

    let callers = (0..CALLERS).map(|caller| call(&gateway, format!("caller {caller}"), TURNS));
    let ids: HashSet<_> = join_all(callers).await.into_iter().flatten().collect();

    assert_eq!(ids.len(), CALLERS * TURNS);
    assert_eq!(fixture.ping().await.end().await, 1_000);
}

/// Sends requests in turn on one connection, POST and GET alternately, and returns the ids of the replies.
async fn call(gateway: &Process, name: String, turns: usize) -> Vec<String> {
    let mut connection = gateway.connect().await;
    let mut ids = Vec::new();
    for turn in 0..turns {
        let (request, words) = if turn % 2 == 0 {
            let value = format!("turn {turn}");
            let body = json!({ "name": name, "value": value }).to_string();
            (post("/ping", body), format!("{name} {value}"))
        } else {
            (get("/ping").into_bytes(), "Ping Pong".to_owned())
        };
        ids.push(id_of(&connection.exchange(request).await.message(), &words));
    }
    ids
}
