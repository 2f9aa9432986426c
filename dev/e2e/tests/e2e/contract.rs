//! The contract between caller, gateway, Kafka and worker, byte for byte.

use std::{collections::HashSet, process::Stdio};

use e2e::{
    engine::Engine,
    environment::has,
    http::{get, post},
    process::Process,
    scene::Scene,
};
use libtest_mimic::Completion;
use serde_json::{Value, json};
use uuid::{Uuid, Version};

/// The id in a reply's text `<words> ( <id> ) `.
fn id_of(message: &str, words: &str) -> String {
    let rest = message.strip_prefix(words).and_then(|it| it.strip_prefix(" ( "));
    let id = rest.and_then(|it| it.strip_suffix(" ) "));
    id.unwrap_or_else(|| panic!("{message:?} is not an answer to {words:?}"))
        .to_owned()
}

fn is_ours(id: &str) -> bool {
    let parsed = Uuid::parse_str(id).unwrap();
    parsed.get_version() == Some(Version::Random) && parsed.hyphenated().to_string() == id
}

pub(crate) async fn a_get_is_the_contract_byte_for_byte(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (gateway, _worker) = scene.pair().await;

    let answer = gateway.get("/ping").await;

    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());
    let request = ping.read_one(0).await;
    let id = String::from_utf8(request.key.unwrap()).unwrap();
    assert_eq!(id.len(), 36);
    assert!(is_ours(&id), "{id}");
    assert_eq!(
        String::from_utf8(request.value.unwrap()).unwrap(),
        format!(r#"{{"id":"{id}","name":"Ping","value":"Pong"}}"#)
    );
    let reply = pong.reply(0).await;
    assert_eq!(reply.key.unwrap(), id.as_bytes());
    assert_eq!(
        String::from_utf8(reply.value.unwrap()).unwrap(),
        format!("Ping Pong ( {id} ) ")
    );
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(answer.text(), format!(r#"{{"message":"Ping Pong ( {id} ) "}}"#));
    assert_eq!((ping.end().await, pong.read_all().await.len()), (1, 1));
}

pub(crate) async fn a_post_carries_the_callers_words(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (gateway, _worker) = scene.pair().await;

    let body = r#" {"value":"w 2","more":{"id":[1]},"id":"mine","name":"w 1"} "#;
    let message = gateway.post("/ping", body).await.message();

    let id = id_of(&message, "w 1 w 2");
    assert!(is_ours(&id), "{id}");
    let request = scene.ping().await.read_one(0).await;
    assert_eq!(request.key.unwrap(), id.as_bytes());
    assert_eq!(
        String::from_utf8(request.value.unwrap()).unwrap(),
        format!(r#"{{"id":"{id}","name":"w 1","value":"w 2"}}"#)
    );
}

pub(crate) async fn words_are_any_text(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (gateway, _worker) = scene.pair().await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());

    // As they stand in the body, and what they mean.
    let cases = [
        (r#""""#, ""),
        (r#"" ) ( \"\\\/\n\r\t\b\f""#, " ) ( \"\\/\n\r\t\u{8}\u{c}"),
        (r#""\u0000\u001f\u007f""#, "\0\u{1f}\u{7f}"),
        (r#""\ud83d\ude00 \u00e4""#, "😀 ä"),
        (r#""😀 ä \u2028 </script>""#, "😀 ä \u{2028} </script>"),
    ];
    for (index, (written, meant)) in cases.into_iter().enumerate() {
        let body = format!(r#"{{"name":{written},"value":{written}}}"#);
        let answer = gateway.post("/ping", body).await;

        let id = id_of(&answer.message(), &format!("{meant} {meant}"));
        let request = ping.read_one(i64::try_from(index).unwrap()).await;
        assert_eq!(
            serde_json::from_slice::<Value>(&request.value.unwrap()).unwrap(),
            json!({ "id": id, "name": meant, "value": meant })
        );
        let reply = pong.reply(index).await;
        assert_eq!(
            String::from_utf8(reply.value.unwrap()).unwrap(),
            format!("{meant} {meant} ( {id} ) ")
        );
    }
}

pub(crate) async fn another_client_reads_the_same_bytes(engine: &Engine) -> Completion {
    if !has("kcat", "-V") {
        return Completion::ignored_with("kcat is not installed");
    }
    let scene = Scene::shared(engine).await;
    let (gateway, _worker) = scene.pair().await;

    let message = gateway.post("/ping", r#"{"name":"a","value":"b"}"#).await.message();

    let id = id_of(&message, "a b");
    let read = async |topic: &str| {
        let ended = tokio::process::Command::new("kcat")
            .args([
                "-C",
                "-q",
                "-b",
                scene.brokers(),
                "-t",
                topic,
                "-p",
                "0",
                "-o",
                "beginning",
                "-e",
            ])
            .args(["-f", "%K %S %k%s\n"])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await;
        let mut lines: Vec<_> = String::from_utf8(ended.unwrap().stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        // Workers announce themselves there.
        lines.retain(|it| it != "15 0 pingpong_worker");
        lines
    };
    let request = format!(r#"{{"id":"{id}","name":"a","value":"b"}}"#);
    assert_eq!(
        read(scene.ping_name()).await,
        [format!("36 {} {id}{request}", request.len())]
    );
    assert_eq!(
        read(scene.pong_name()).await,
        [format!("36 {} {id}{message}", message.len())]
    );
    Completion::Completed
}

pub(crate) async fn two_hundred_callers_at_once_get_their_own_answers(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (gateway, _worker) = scene.pair().await;

    let callers = (0..200).map(|caller| call(&gateway, format!("caller {caller}"), 1));
    let ids = all(callers).await;

    assert_eq!(ids.len(), 200);
    assert_eq!(scene.ping().await.end().await, 200);
}

pub(crate) async fn a_thousand_in_turn(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (gateway, _worker) = scene.pair().await;

    let ids = all([call(&gateway, "only".to_owned(), 1_000)]).await;

    assert_eq!(ids.len(), 1_000);
    assert_eq!(scene.ping().await.end().await, 1_000);
}

pub(crate) async fn eight_times_a_thousand_at_once(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (gateway, _worker) = scene.pair().await;

    let callers = (0..8).map(|caller| call(&gateway, format!("caller {caller}"), 1_000));
    let ids = all(callers).await;

    assert_eq!(ids.len(), 8_000);
    assert_eq!(scene.ping().await.end().await, 8_000);
}

/// Asks so many times in turn on one connection, each time with words of its own, and gives the ids of the answers.
async fn call(gateway: &Process, name: String, times: u32) -> Vec<String> {
    let mut connection = gateway.connect().await;
    let mut ids = Vec::new();
    for turn in 0..times {
        // Every second one is of the other kind; both kinds mix in Kafka.
        let (request, words) = if turn % 2 == 0 {
            let value = format!("turn {turn}");
            let body = json!({ "name": name, "value": value }).to_string();
            (post("/ping", body), format!("{name} {value}"))
        } else {
            (get("/ping").into_bytes(), "Ping Pong".to_owned())
        };
        ids.push(id_of(&connection.ask(request).await.message(), &words));
    }
    ids
}

/// Runs callers at the same time and gives the different ids of their answers.
async fn all(callers: impl IntoIterator<Item = impl Future<Output = Vec<String>>>) -> HashSet<String> {
    let answers = futures_util::future::join_all(callers).await;
    answers.into_iter().flatten().collect()
}
